"""One MCP server under supervision: whatever it does costs its own tools only, and it comes back."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mcp.server.caching import CacheHint
from mcp.server.mcpserver import MCPServer
from structlog.testing import capture_logs

from mcp_federation.contract.messages import ServerState
from mcp_federation.errors import (
    ServerDown,
    ServerUnavailable,
)
from mcp_federation.node.servers import listing, session
from mcp_federation.node.servers import server as supervision
from mcp_federation.node.servers.config import BrokenSpec, HttpSpec, StdioSpec
from mcp_federation.node.servers.server import SupervisedServer
from mcp_federation.node.servers.toolboxes import ToolboxSpec
from tests.support.http_peer import HttpPeer
from tests.support.node_servers import PATIENCE, hurry, plain, sdk_over_stdio
from tests.support.plain_servers import (
    BANNER,
    CALLS_ITSELF_NOTHING,
    DIES_AFTER_LISTING,
    ENDLESS,
    EXITS,
    GARBAGE,
    HANGS,
    HEEDS_NO_CURSOR,
    NEVER_ANSWERS,
    NEW,
    NONSENSE,
    RESTLESS,
)
from tests.support.sdk_servers import HttpServer, sdk_server
from tests.support.supervised import Run, Watched, supervising
from tests.support.waiting import eventually


@pytest.fixture
async def run(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    hurry(monkeypatch)
    async with supervising() as run:
        yield run


def is_alive(marker: str) -> bool:
    """Whether a process of ours has that text in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_text(errors="replace"):
                return True
        except OSError:
            continue
    return False


async def test_a_server_that_starts_lists_its_tools_and_answers(run: Run) -> None:
    box = await run(plain())
    assert box.server.state == ServerState(name="box", state="ready", tools=len(box.server.tools))
    assert "box.größe €" in box.names
    assert (await box.call("echo", text="grüße")).text == "grüße"
    echo = next(tool.tool for tool in box.server.tools if tool.remote_name == "echo")
    assert (echo.parameters, echo.version) == (("zone", "text", "again"), "1.2.0")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (StdioSpec("no-such-command-anywhere"), "the command no-such-command-anywhere was not found"),
        (
            StdioSpec(sys.executable, cwd="/no/such/folder"),
            "its working directory /no/such/folder is not there",
        ),
        (StdioSpec("/"), "PermissionError"),
        (StdioSpec("a\0b"), "ValueError: "),
        (plain(EXITS), "it ended before it answered; its last words: see https://licences.example"),
        (plain(NONSENSE), "it answers with what is not valid MCP"),
        (plain(ENDLESS), "its list has more than 20 pages"),
        (HttpSpec("http://127.0.0.1:1/mcp"), "it cannot be reached: All connection attempts failed"),
        (HttpSpec("http://127.0.0.1:1/sse", transport="sse"), "it cannot be reached"),
        (HttpSpec("http://[::1"), "InvalidURL"),
        (BrokenSpec("see https://u:s3cret@a\n \ud800"), "see https://a ?"),
    ],
)
async def test_a_server_that_does_not_start_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch, spec: Any, reason: str
) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 20)
    with capture_logs() as logs:
        box = await run(spec)
    state = box.server.state
    assert (state.state, state.tools) == ("failed", 0)
    assert state.reason.startswith(reason)
    assert "s3cret" not in state.reason
    assert [(log["server"], log["reason"]) for log in logs if log["event"] == "server_failed"] == [
        ("box", state.reason)
    ]


@pytest.mark.parametrize("manner", [HANGS, NEVER_ANSWERS])
async def test_a_server_that_does_not_answer_fails_in_time(run: Run, manner: str) -> None:
    box = await run(plain(manner), start_timeout=0.2)
    assert box.server.state.reason == "it did not answer in time"


async def test_a_server_that_writes_garbage_fails_before_its_time_and_is_told_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "NONSENSE_PATIENCE", 0.1)
    box = await run(plain(GARBAGE), start_timeout=60)
    assert box.server.state.reason == "it did not answer in time; it writes to stdout what is not MCP"


async def test_a_server_that_greets_with_a_banner_works(run: Run) -> None:
    box = await run(plain(BANNER))
    assert box.server.state.state == "ready"
    assert (await box.call("echo", text="a")).text == "a"


async def test_a_server_without_tools_is_ready_and_has_none(run: Run) -> None:
    box = await run(plain(CALLS_ITSELF_NOTHING))
    assert (box.server.state.state, box.server.tools) == ("ready", [])


async def test_a_header_that_is_malformed_does_not_show_its_value(run: Run) -> None:
    async with HttpServer() as http:
        box = await run(HttpSpec(http.url, {"Authorization": "Bearer s3cret\n"}))
        assert box.server.state.state == "failed"
        assert "s3cret" not in box.server.state.reason


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_server_that_refuses_the_handshake_is_told_with_its_status(run: Run, status: int) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    with HttpPeer({"POST /mcp": refuse}) as peer:
        box = await run(HttpSpec(f"{peer.url}/mcp"))
        assert box.server.state.reason == f"it answers with HTTP status {status}"


async def test_a_server_that_fails_is_started_again_with_growing_pauses(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(supervision, "BACKOFF_MAX", 0.05)
    with capture_logs() as logs:
        box = await run(StdioSpec("no-such-command-anywhere"))
        await box.until(lambda: box.server.state.restarts >= 5)
    failed = [log for log in logs if log["event"] == "server_failed"]
    pauses = [log["retry_in_seconds"] for log in failed]
    assert pauses == sorted(pauses)
    assert [log["log_level"] for log in failed] == ["error"] + ["debug"] * (len(failed) - 1)
    assert [state.state for state in box.states] == ["failed"] * len(box.states)


async def test_a_server_that_crashes_fails_its_calls_and_works_for_the_next(run: Run) -> None:
    box = await run(plain())
    waiting = asyncio.create_task(box.call("wait"))
    with pytest.raises(ServerUnavailable, match="went away during the call") as crashed:
        await box.call("crash")
    assert crashed.value.ran is None
    with pytest.raises(ServerUnavailable):
        await waiting
    assert (await box.call("echo", text="a")).text == "a"
    state = await box.until_state("failed")
    assert (state.reason, state.restarts) == ("it ended; its last words: the last words", 1)


async def test_a_call_does_not_wait_out_the_pause_of_a_server_that_failed(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervision, "BACKOFF_MAX", 3600.0)
    good = plain()
    script = tmp_path / "server"
    box = await run(StdioSpec(str(script), good.args))
    monkeypatch.setattr(supervision, "BACKOFF_FIRST", 3600.0)
    await box.until(lambda: box.server.state.restarts >= 2)
    with pytest.raises(ServerDown, match="'box' failed, and is started anew"):
        await box.call("echo", timeout=0.05, text="a")
    monkeypatch.setattr(supervision, "BACKOFF_FIRST", 0.0)
    script.symlink_to(good.command)
    assert (await box.call("echo", text="a")).text == "a"


async def test_a_server_that_dies_after_listing_is_told_so(run: Run) -> None:
    box = await run(plain(DIES_AFTER_LISTING))
    assert (await box.until_state("failed")).reason.startswith("it ended")


async def test_a_backoff_begins_anew_after_good_health(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "HEALTHY_AFTER", 0.0)
    with capture_logs() as logs:
        box = await run(StdioSpec("no-such-command-anywhere"))
        await box.until(lambda: box.server.state.restarts >= 3)
    assert {log["retry_in_seconds"] for log in logs if log["event"] == "server_failed"} == {0.1}


async def test_a_change_that_is_told_is_seen_at_once(run: Run) -> None:
    box = await run(plain())
    await box.call("grow", name="fresh")
    await box.until(lambda: "box.fresh" in box.names)
    await box.call("describe", text=NEW)
    await box.until(lambda: any(tool.tool.description == NEW for tool in box.server.tools))
    await box.call("drop", name="fresh")
    await box.until(lambda: "box.fresh" not in box.names)


@pytest.mark.parametrize("over", ["stdio", "http", "toolbox"])
async def test_a_change_is_seen_at_once_in_the_newest_revision(run: Run, over: str) -> None:
    async with HttpServer() as http:
        specs = {"stdio": sdk_over_stdio(), "http": http.spec, "toolbox": ToolboxSpec(sdk_server())}
        box = await run(specs[over])
        assert box.server.state.state == "ready"
        await box.call("grow", name="fresh")
        await box.until(lambda: "box.fresh" in box.names)
        assert (await box.call("fresh", text="a")).text == "a"


async def test_what_changed_before_it_was_listened_to_is_seen(run: Run) -> None:
    server = sdk_server()
    box = Watched(ToolboxSpec(server))

    def add_one(_: object) -> None:
        # After the first list, before the subscription.
        if box.server.state.state == "ready" and "late" not in box.names:
            server.add_tool(len, name="late", description="A tool that came late.")

    def on_change(watched: SupervisedServer) -> None:
        box._on_change(watched)
        add_one(watched)

    box.server._on_change = on_change
    box.server.start()
    await box.until(lambda: "box.late" in box.names)
    await box.server.stop()


async def test_a_change_that_nobody_told_is_seen_by_a_poll(run: Run) -> None:
    box = await run(plain(), poll_interval=0.05)
    await box.call("quietly", text=NEW)
    await box.until(lambda: any(tool.tool.description == NEW for tool in box.server.tools))


async def test_a_poll_is_not_answered_by_a_cache(run: Run) -> None:
    hour = CacheHint(ttl_ms=3_600_000, scope="public")
    server: MCPServer = MCPServer("cached", cache_hints={"tools/list": hour})
    server.add_tool(len, name="early", description="A tool from the start.")
    box = await run(ToolboxSpec(server), poll_interval=0.05)
    server.add_tool(len, name="late", description="A tool that came late.")
    await box.until(lambda: "box.late" in box.names)


async def test_a_list_that_stays_the_same_is_no_change(run: Run) -> None:
    box = await run(plain(), poll_interval=0.02)
    states, tools = len(box.states), box.server.tools
    while (await box.seen())["polls"] < 5:
        pass
    assert len(box.states) == states
    assert box.server.tools is tools


async def test_a_server_that_tells_of_changes_without_end_is_looked_at_now_and_then(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOOK_PAUSE", PATIENCE)
    box = await run(plain(RESTLESS), poll_interval=PATIENCE)
    for _ in range(20):
        assert (await box.seen())["polls"] <= 2
    with pytest.raises(ServerUnavailable):
        await box.call("crash")
    async with asyncio.timeout(PATIENCE / 2):  # that it ended is seen at once
        assert (await box.call("echo", text="a")).text == "a"


async def test_a_tool_that_cannot_be_published_is_logged_once(run: Run) -> None:
    server = sdk_server()
    with capture_logs() as logs:
        box = await run(ToolboxSpec(server), poll_interval=0.02)
        server.add_tool(len, name="x" * 300, description="A tool with too long a name.")
        await box.until(lambda: bool(box.server.unfit))
        server.add_tool(len, name="fresh", description="A tool that came later.")
        await box.until(lambda: "box.fresh" in box.names)
    assert len([log for log in logs if log["event"] == "tool_unfit"]) == 1


async def test_a_server_that_lists_the_same_under_every_cursor_has_listed_all(run: Run) -> None:
    box = await run(plain(HEEDS_NO_CURSOR))
    assert (box.names, box.server.unfit) == ((await run(plain())).names, {})


async def test_a_list_without_end_ends_the_server(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_TOOLS", 3)
    box = await run(plain())
    assert box.server.state.reason == "it lists more than 3 tools"


async def test_a_server_that_has_lost_our_session_is_looked_at(run: Run) -> None:
    box = await run(plain())
    before = (await box.seen())["polls"]
    with pytest.raises(ServerUnavailable):
        await box.call("refuse", code=-32600)
    async with asyncio.timeout(10):
        while (await box.seen())["polls"] == before:
            pass


async def test_a_server_over_http_that_goes_away_and_comes_back(run: Run) -> None:
    async with HttpServer() as http:
        box = await run(http.spec)
        assert (await box.call("echo", text="a")).text == "a"
        await http.stop()
        await box.until_state("failed")
        with pytest.raises(ServerUnavailable):
            await box.call("echo", text="a")
        await http.start()
        await box.until_state("ready")
        assert (await box.call("echo", text="b")).text == "b"


async def test_a_server_over_sse_works(run: Run) -> None:
    async with HttpServer(transport="sse") as http:
        box = await run(http.spec)
        assert (await box.call("echo", text="a")).text == "a"
        await box.server.stop()


async def test_a_server_that_is_stopped_leaves_no_process(run: Run) -> None:
    marker = "a-marker-of-this-test"
    spec = plain()
    box = await run(StdioSpec(spec.command, (*spec.args, marker)))
    assert is_alive(marker)
    waiting = asyncio.create_task(box.call("wait"))
    await box.seen()
    await box.server.stop()
    with pytest.raises((ServerUnavailable, asyncio.CancelledError)):
        await waiting
    assert not is_alive(marker)
    assert box.server.state.state == "stopped"
    with pytest.raises(ServerDown, match="is stopping"):
        await box.call("echo", text="a")


async def test_a_server_that_hangs_is_stopped_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    marker = "another-marker-of-this-test"
    spec = plain(HANGS)
    box = Watched(StdioSpec(spec.command, (*spec.args, marker)))
    box.server.start()
    with pytest.raises(ServerDown, match="is starting"):
        await box.call("echo", text="a")
    await eventually(lambda: is_alive(marker))
    await box.server.stop()
    await box.server.settled()
    assert not is_alive(marker)


async def test_a_server_that_was_never_started_stops() -> None:
    box = Watched(plain())
    await box.server.stop()
    assert box.server.state.state == "stopped"


async def test_a_stopped_server_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    for spec in (plain(), ToolboxSpec(sdk_server()), StdioSpec("no-such-command-anywhere")):
        box = Watched(spec)
        box.server.start()
        await box.server.settled()
        await box.server.stop()
    assert asyncio.all_tasks() == before
