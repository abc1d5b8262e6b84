"""Calls of a supervised server's tools: each fails alone, and none outlives its caller."""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp.server.mcpserver import Context, MCPServer

from mcp_federation.errors import (
    DeadlineExceeded,
    InvalidArguments,
    Overloaded,
    ToolFailed,
    ToolNotFound,
)
from mcp_federation.node.servers.config import StdioSpec
from mcp_federation.node.servers.toolboxes import ToolboxSpec
from tests.support.node_servers import hurry, plain
from tests.support.plain_servers import TEXT_IDS
from tests.support.sdk_servers import Seen, sdk_server
from tests.support.supervised import Run, supervising
from tests.support.waiting import eventually


@pytest.fixture
async def run(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    hurry(monkeypatch)
    async with supervising() as run:
        yield run


async def test_a_result_keeps_its_structure_and_its_nulls(run: Run) -> None:
    box = await run(plain())
    assert (await box.call("structured")).structured_content == {"rows": [1, None], "isError": True}
    box = await run(ToolboxSpec(sdk_server()))
    assert (await box.call("record", rows=2)).value == {"rows": 2, "nothing": None}


async def test_only_an_error_of_the_tool_is_one(run: Run) -> None:
    box = await run(plain())
    assert (await box.server.call("fail", {}, 10)).is_error
    assert not (await box.server.call("structured", {}, 10)).is_error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-32601, ToolNotFound),
        (-32602, InvalidArguments),
        (-32000, ToolFailed),
        (7, ToolFailed),
        ("EBUSY", ToolFailed),
    ],
)
async def test_an_error_of_the_protocol_is_told(run: Run, code: Any, kind: type[Exception]) -> None:
    box = await run(plain())
    with pytest.raises(kind):
        await box.call("refuse", code=code)
    assert (await box.call("echo", text="still there")).text == "still there"


async def test_a_server_that_makes_texts_of_ids_is_understood(run: Run) -> None:
    box = await run(plain(TEXT_IDS))
    assert (await box.call("echo", text="a")).text == "a"


async def test_a_text_that_was_cut_in_the_middle_of_a_character_comes_through(run: Run) -> None:
    box = await run(plain())
    assert (await box.call("cut")).text == "half of \ufffd"


async def test_a_result_that_is_none_fails_the_call_alone(run: Run) -> None:
    box = await run(plain())
    with pytest.raises(ToolFailed, match="breaks its own contract"):
        await box.call("nonsense")
    assert (await box.call("echo", text="still there")).text == "still there"


async def test_a_deadline_ends_a_call_and_the_server_is_told(run: Run) -> None:
    box = await run(plain())
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
        await box.call("wait", timeout=0.05)
    while not (await box.seen())["cancelled"]:
        pass


async def test_a_cancelled_call_is_told_to_the_server(run: Run) -> None:
    for spec in (plain(), None):
        seen = Seen()
        box = await run(spec or ToolboxSpec(sdk_server(seen=seen)))
        call = asyncio.create_task(box.call("wait"))
        if spec is None:
            await seen.started.wait()
        else:
            while (await box.seen())["running"] < 2:
                pass
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        if spec is None:
            await asyncio.wait_for(seen.cancelled.wait(), 5)
        else:
            while not (await box.seen())["cancelled"]:
                pass


async def test_a_toolbox_that_blocks_a_thread_is_not_waited_for(run: Run) -> None:
    server: MCPServer = MCPServer("blocking")
    blocked = threading.Event()

    @server.tool()
    def block() -> str:
        """Blocks its thread until somebody frees it."""
        blocked.wait(30)
        return "freed"

    box = await run(ToolboxSpec(server))
    try:
        with pytest.raises(DeadlineExceeded):
            await box.call("block", timeout=0.05)
    finally:
        blocked.set()


async def test_a_toolbox_that_exits_does_not_end_the_node(run: Run) -> None:
    server: MCPServer = MCPServer("leaving")

    @server.tool()
    async def leave() -> str:
        """Tries to end the process."""
        raise SystemExit(3)

    @server.tool()
    async def interrupt() -> str:
        """Tries to end the process as a user would."""
        raise KeyboardInterrupt

    @server.tool()
    async def interrupt_in_context(context: Context[Any, Any]) -> str:
        """Tries to end the process, from the SDK's own machinery."""
        await context.report_progress(1)
        raise KeyboardInterrupt

    @server.tool()
    def leave_thread() -> str:
        """Tries to end the process from a thread."""
        sys.exit(3)

    box = await run(ToolboxSpec(server))
    for name in ("leave", "leave_thread", "interrupt", "interrupt_in_context"):
        with pytest.raises(ToolFailed, match="tried to end its process"):
            await box.call(name)


async def test_calls_on_one_server_do_not_wait_for_each_other(run: Run) -> None:
    box = await run(plain())
    slow = asyncio.create_task(box.call("wait"))
    texts = [str(number) for number in range(60)]
    fast = await asyncio.gather(*(box.call("echo", text=text) for text in texts))
    assert [result.text for result in fast] == texts
    assert not slow.done()
    await box.call("release")
    assert (await slow).text == "wait"


async def test_a_server_that_has_all_it_takes_at_once_refuses_more(run: Run) -> None:
    spec = plain()
    box = await run(StdioSpec(spec.command, spec.args, max_concurrency=1))
    waits = asyncio.create_task(box.call("wait"))
    await eventually(lambda: box.server._slots.in_use == 1)
    with pytest.raises(Overloaded) as caught:
        await box.call("echo", text="a")
    assert caught.value.details["retry_after_ms"] > 0
    waits.cancel()
    await eventually(lambda: box.server._slots.in_use == 0)
    assert (await box.call("echo", text="a")).text == "a"


async def test_a_tool_gets_an_environment_without_our_secrets(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_FEDERATION_TOKEN", "s3cret")
    spec = plain()
    box = await run(StdioSpec(spec.command, spec.args, {"MINE": "yes"}))
    environ = (await box.seen())["environ"]
    assert environ["MINE"] == "yes"
    assert "s3cret" not in json.dumps(environ)
