"""A node comes, is seen by NATS tools, goes without a trace, and comes back."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mcp_federation.bus import handling
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus
from mcp_federation.client import FederationClient
from mcp_federation.contract.messages import Presence, RefusedTool
from mcp_federation.contract.subjects import EXECUTE, node_queue
from mcp_federation.errors import (
    BusUnavailable,
    FederationError,
    InvalidRequest,
    NodeUnavailable,
    ServerUnavailable,
)
from mcp_federation.governance.app import GovernanceWorker
from mcp_federation.node.app import run
from mcp_federation.node.publication import registrar
from mcp_federation.node.publication.presence import Heartbeat
from mcp_federation.node.servers import session
from mcp_federation.node.servers.config import StdioSpec
from mcp_federation.settings import Settings, load_settings
from mcp_federation.version import VERSION
from tests.conftest import Connect
from tests.support.nats_server import NatsServer
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on, plain, state_of, toolbox
from tests.support.plain_servers import EXITS, GARBAGE
from tests.support.sdk_servers import Seen, sdk_server
from tests.support.waiting import eventually


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        yield mesh


async def ask(bus: Bus, subject: str) -> Any:
    return json.loads((await bus.request(subject, b"", timeout=5)).payload)


async def test_one_good_server_works_beside_three_bad_ones(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "NONSENSE_PATIENCE", 0.2)
    with capture_logs() as logs:
        await mesh.node(
            {
                "missing": StdioSpec("no-such-command-anywhere"),
                "exits": plain(EXITS),
                "garbage": plain(GARBAGE),
                "good": plain(),
            },
            sharing="records",
        )
        await mesh.has("good.echo")
        assert await mesh.call("good.echo", text="a") == "a"
        presence = await mesh.heard(
            lambda presence: [server.state for server in presence.servers].count("failed") == 3
        )
    reasons = {server.name: server.reason for server in presence.servers}
    assert reasons["good"] == ""
    assert reasons["missing"] == "the command no-such-command-anywhere was not found"
    assert "its last words" in reasons["exits"]
    assert "it writes to stdout what is not MCP" in reasons["garbage"]
    assert state_of(presence, "good").state == "ready"
    assert {log["server"] for log in logs if log["event"] == "server_failed"} == {
        "missing",
        "exits",
        "garbage",
    }
    assert all(name.startswith("good.") for name in mesh.names())


async def test_a_node_says_that_it_is_ready_once_its_tools_are_decided_and_who_has_failed(mesh: Mesh) -> None:
    def ready() -> list[Any]:
        return [log for log in logs if log["event"] == "node_ready"]

    with capture_logs() as logs:
        node = await mesh.node({"good": plain(), "exits": plain(EXITS)})
        await eventually(lambda: bool(ready()))
        assert node.registrar.get("good.echo") is not None
    assert [log["failed"] for log in ready()] == [["exits"]]


async def test_the_last_words_of_a_server_leave_the_organisation_only_with_its_records(mesh: Mesh) -> None:
    node = await mesh.node({"exits": plain(EXITS)}, sharing="statistics")
    presence = await mesh.heard(lambda presence: state_of(presence, "exits").state == "failed")
    assert state_of(presence, "exits").reason == "it ended before it answered"
    assert "its last words" in node.servers["exits"].state.reason


async def test_nats_tools_see_the_node(mesh: Mesh) -> None:
    await mesh.node(boxed(toolbox("box", "a", "b")), sharing="records")
    await mesh.shows({"box.a", "box.b"})
    await mesh.call("box.a", text="a")
    with pytest.raises(FederationError):
        await mesh.call("box.a", text=7)
    ping = await ask(mesh.bus, "$SRV.PING")
    instance = ping["id"]
    identity = {
        "name": "mcp-federation-node",
        "id": instance,
        "version": VERSION,
        "metadata": {"node": "acme"},
    }
    assert ping == {"type": "io.nats.micro.v1.ping_response", **identity}
    endpoint = {"name": "execute", "subject": EXECUTE.every("acme"), "queue_group": node_queue("acme")}
    for tail in ("", ".mcp-federation-node", f".mcp-federation-node.{instance}"):
        assert await ask(mesh.bus, f"$SRV.PING{tail}") == ping
        info = await ask(mesh.bus, f"$SRV.INFO{tail}")
        assert info == {
            "type": "io.nats.micro.v1.info_response",
            **identity,
            "description": "Executes the MCP tools of acme",
            "endpoints": [{**endpoint, "metadata": {}}],
        }
        stats = await ask(mesh.bus, f"$SRV.STATS{tail}")
        (measured,) = stats.pop("endpoints")
        assert stats.pop("started").endswith("Z")
        assert stats == {"type": "io.nats.micro.v1.stats_response", **identity}
        assert measured.items() >= {**endpoint, "num_requests": 2, "num_errors": 1, "last_error": ""}.items()
        assert measured["processing_time"] >= measured["average_processing_time"] > 0
    with pytest.raises(NodeUnavailable):
        await ask(mesh.bus, "$SRV.PING.mcp-federation-node.another")


@pytest.mark.parametrize("sharing", ["statistics", "nothing"])
async def test_a_node_that_shares_no_single_execution_counts_none_for_nats_tools(
    mesh: Mesh, sharing: str
) -> None:
    await mesh.node(boxed(toolbox("box", "a", "b")), sharing=sharing)
    await mesh.has("box.a")
    await mesh.call("box.a", text="a")
    stats = await ask(mesh.bus, "$SRV.STATS")
    assert stats["metadata"] == {"node": "acme"}
    assert stats["endpoints"] == []


async def test_a_node_that_leaves_says_so_and_finishes_what_it_took(mesh: Mesh) -> None:
    node = await mesh.node({"plain": plain()})
    await mesh.has("plain.wait", "plain.release")
    call = asyncio.create_task(mesh.call("plain.wait"))
    await mesh.heard(lambda presence: presence.in_flight == 1)
    leaving = asyncio.create_task(mesh.leave(node))
    await mesh.heard(lambda presence: presence.status == "leaving")
    await node.servers["plain"].call("release", {}, 5)
    assert await call == "wait"
    await leaving
    assert not mesh.catalog.state.is_available("acme")
    assert "plain.wait" in mesh.names()
    with pytest.raises(NodeUnavailable):
        await mesh.call("plain.echo", text="a")


async def test_a_call_that_outlasts_the_end_is_told_so(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling.Tasks.finish, "__defaults__", (0.1,))
    seen = Seen()
    node = await mesh.node(boxed(sdk_server("box", seen)))
    await mesh.has("box.wait")
    call = asyncio.create_task(mesh.call("box.wait"))
    await seen.started.wait()
    await mesh.leave(node)
    with pytest.raises(ServerUnavailable, match="the node stopped"):
        await call
    await asyncio.wait_for(seen.cancelled.wait(), 5)


async def test_a_node_leaves_no_task_and_no_process(connect: Connect, tmp_path: Path) -> None:
    async with mesh_on(connect, tmp_path) as mesh:
        marker = f"marker-of-{tmp_path.name}"
        spec = plain()
        marked = StdioSpec(spec.command, (*spec.args, marker))
        node = await mesh.make({"plain": marked, **boxed(sdk_server("box"))})
        before = asyncio.all_tasks()
        await node.start()
        await mesh.has("plain.echo", "box.echo")
        assert await asyncio.to_thread(processes, marker)
        await node.stop()
        assert not await asyncio.to_thread(processes, marker)
        await eventually(lambda: not {task for task in asyncio.all_tasks() - before if not is_of_nats(task)})


def is_of_nats(task: asyncio.Task[Any]) -> bool:
    """Whether the client library runs it, for the connection or for the replica's."""
    coroutine: Any = task.get_coro()
    return str(coroutine.__qualname__).startswith(("Subscription.", "Queue.get"))


def processes(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_text(errors="replace"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


async def test_a_node_that_never_started_stops(mesh: Mesh) -> None:
    node = await mesh.make(boxed(toolbox("box", "a")))
    await node.stop()
    assert [server.state.state for server in node.servers.values()] == ["stopped"]


async def test_a_change_of_a_server_is_told_before_the_next_heartbeat(mesh: Mesh) -> None:
    node = await mesh.node({"plain": plain()}, heartbeat=600)
    await mesh.has("plain.crash")
    told = asyncio.create_task(mesh.ready(node, "plain", restarts=1))
    with pytest.raises(ServerUnavailable):
        await mesh.call("plain.crash")
    await told


async def test_a_presence_that_is_too_large_is_sent_in_short(bus: Bus) -> None:
    refused = tuple(RefusedTool(name="x" * 200, decision="rejected", why="y" * 500) for _ in range(2000))
    long = Presence(node="acme", instance="1", interval=9, catalog_hash="0" * 64, tools=7, refused=refused)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(delivery: Any) -> None:
        heard.put_nowait(delivery.payload)

    await bus.subscribe("mcpfed.v1.presence.acme", listen)
    await bus.flush()
    heartbeat = Heartbeat(bus, "acme", 9, lambda: long)
    heartbeat.start()
    presence = json.loads(await asyncio.wait_for(heard.get(), 5))
    assert (presence["tools"], "refused" in presence) == (7, False)
    await heartbeat.stop()
    assert json.loads(await asyncio.wait_for(heard.get(), 5))["status"] == "leaving"


async def test_a_heart_beats_on_after_a_presence_that_cannot_be_written(bus: Bus) -> None:
    made = 0
    heard = asyncio.Event()

    def current() -> Presence:
        nonlocal made
        made += 1
        instance = "\ud800" if made == 1 else "1"
        return Presence(node="acme", instance=instance, interval=1, catalog_hash="0" * 64)

    async def listen(_: Any) -> None:
        heard.set()

    await bus.subscribe("mcpfed.v1.presence.acme", listen)
    await bus.flush()
    heartbeat = Heartbeat(bus, "acme", 0.01, current)
    heartbeat.start()
    await asyncio.wait_for(heard.wait(), 5)
    await heartbeat.stop()


async def test_a_heart_beats_on_where_nothing_can_be_sent(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: asyncio.Queue[str] = asyncio.Queue()

    async def failing(subject: str, *_: object) -> None:
        tries.put_nowait(subject)
        raise BusUnavailable("the connection to NATS is down")

    monkeypatch.setattr(bus, "publish", failing)
    presence = Presence(node="acme", instance="1", interval=1, catalog_hash="0" * 64)
    heartbeat = Heartbeat(bus, "acme", 0.01, lambda: presence)
    heartbeat.start()
    async with asyncio.timeout(5):
        for _ in range(3):
            await tries.get()
    await heartbeat.stop()


def process_settings(server: NatsServer, folder: Path, config: dict[str, Any]) -> Settings:
    file = folder / "mcp.json"
    file.write_text(json.dumps({"mcpServers": config}))
    return load_settings(nats_url=server.url, node="acme", config=file, heartbeat=0.1, state_dir=folder)


def entry(spec: StdioSpec) -> dict[str, Any]:
    return {"command": spec.command, "args": list(spec.args)}


@pytest.mark.bus
async def test_a_node_process_serves_its_config_until_it_is_stopped(
    own_nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = process_settings(own_nats_server, tmp_path, {"plain": entry(plain())})
    async with await NatsBus.connect(own_nats_server.url) as bus:
        governance = GovernanceWorker(bus, tmp_path)
        key = await governance.start()
        stop = asyncio.Event()
        process = asyncio.create_task(run(settings, stop))
        async with FederationClient.connect(own_nats_server.url, [key]) as client:
            assert await client.catalog.wait_until(
                lambda: client.catalog.state.get("acme", "plain.echo") is not None, 10
            )
            assert (await client.execute("plain.echo", {"text": "a"})).value == "a"
            stop.set()
            await process
            assert await client.catalog.wait_until(lambda: not client.catalog.state.is_available("acme"), 5)
        await governance.stop()


@pytest.mark.bus
async def test_a_node_process_that_waits_for_its_catalog_stops_at_once(
    own_nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = process_settings(own_nats_server, tmp_path, {})
    stop = asyncio.Event()
    with capture_logs() as logs:
        process = asyncio.create_task(run(settings, stop))
        async with await NatsBus.connect(own_nats_server.url) as bus:
            heard = asyncio.Event()

            async def listen(_: Any) -> None:
                heard.set()

            await bus.subscribe("$JS.API.STREAM.INFO.>", listen)
            await asyncio.wait_for(heard.wait(), 10)
        stop.set()
        await asyncio.wait_for(process, 5)
    assert [log for log in logs if log["event"] == "node_stopped"]


@pytest.mark.bus
async def test_a_node_process_with_a_bad_config_ends_with_its_error(
    own_nats_server: NatsServer, tmp_path: Path
) -> None:
    settings = process_settings(own_nats_server, tmp_path, {})
    (tmp_path / "mcp.json").write_text("nonsense")
    with pytest.raises(InvalidRequest, match=r"mcp\.json"):
        await run(settings, asyncio.Event())


@pytest.mark.bus
async def test_a_node_whose_start_fails_ends_with_its_error(
    own_nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrar, "CATALOG_TIMEOUT", 0.1)
    with pytest.raises(FederationError, match="was not replayed"):
        await run(process_settings(own_nats_server, tmp_path, {}), asyncio.Event())


@pytest.mark.bus
async def test_everything_works_again_after_nats_and_the_node_were_killed(
    own_nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_nats_server

    async def connect() -> Bus:
        bus = await NatsBus.connect(server.url)
        buses.append(bus)
        return bus

    buses: list[Bus] = []
    hurry(monkeypatch)
    mesh = Mesh(connect, tmp_path)
    await mesh.open()
    node = await mesh.node({"plain": plain()})
    await mesh.has("plain.echo", "plain.grow")
    assert await mesh.call("plain.echo", text="a") == "a"
    server.kill()
    with pytest.raises(FederationError):
        await mesh.call("plain.echo", text="a", timeout=1)
    server.start()
    assert await answers(mesh) == "b"
    await mesh.call("plain.grow", name="fresh")
    await mesh.has("plain.fresh")
    # A second process takes the name over, as after a crash: the first never said goodbye.
    successor = await mesh.make({"plain": plain()})
    await successor.start()
    await mesh.nodes.pop().stop()
    mesh.nodes.append(successor)
    assert await answers(mesh) == "b"
    await mesh.until(lambda: "plain.fresh" not in mesh.names())
    await mesh.agrees(successor)
    assert node is not successor
    await mesh.close()
    for bus in reversed(buses):
        await bus.close()


async def answers(mesh: Mesh) -> Any:
    """What a call answers once it is answered at all."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await mesh.call("plain.echo", text="b", timeout=1)
            except FederationError:
                await mesh.heard(lambda presence: presence.status == "up")
