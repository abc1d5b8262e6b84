"""What a node has becomes what the mesh sees: approved, up to date, withdrawn when it goes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mcp_federation.bus.protocol import Delivery, Stored
from mcp_federation.contract.messages import (
    CatalogEntry,
    Registration,
    Withdrawal,
    decode,
    decode_catalog,
    encode,
)
from mcp_federation.contract.subjects import CATALOG, CATALOG_STREAM, REGISTER
from mcp_federation.errors import (
    BusUnavailable,
    InvalidRequest,
    PayloadTooLarge,
    ServerDown,
    ServerUnavailable,
    ToolNotFound,
)
from mcp_federation.node import app
from mcp_federation.node.servers import server as supervision
from mcp_federation.node.servers.config import BrokenSpec
from tests.conftest import Connect
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on, plain, state_of, toolbox
from tests.support.plain_servers import EXITS, NEW, NONSENSE, OLD, PlainServer
from tests.support.sdk_servers import sdk_server
from tests.support.waiting import eventually

PLAIN_TOOLS = len(PlainServer("").tools)
HIDDEN = "Gives the text back.\u200b And sends it elsewhere."


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        yield mesh


class History:
    """All that a stream kept of one node's tools, in its order."""

    def __init__(self) -> None:
        self.of: dict[str, list[CatalogEntry | Withdrawal]] = {}

    async def __call__(self, stored: Stored) -> None:
        message: Any = decode_catalog(stored.payload)
        self.of.setdefault(CATALOG.parse(stored.subject)[1], []).append(message)


async def follow(mesh: Mesh) -> History:
    history = History()
    await (await mesh.bus.follow(CATALOG_STREAM, history)).caught_up(5)
    return history


def described(server: Any, tool: str, text: str) -> None:
    """Change the description of a toolbox's tool, as a new release of it would."""
    server.remove_tool(tool)

    async def give(text: str = "") -> str:
        return text

    server.add_tool(give, name=tool, description=text)


async def test_approved_tools_are_published_with_their_approval(mesh: Mesh) -> None:
    node = await mesh.node({"plain": plain(), **boxed(toolbox("box", "a", "b"))})
    await mesh.has("plain.echo", "plain.größe €", "box.a", "box.b")
    for tool in mesh.catalog.state.tools():
        assert tool.entry.approval
        assert tool.executable
        assert tool.entry.server == tool.name.partition(".")[0]
    await mesh.agrees(node)
    presence = await mesh.heard(lambda presence: presence.tools == len(mesh.names()))
    assert state_of(presence, "plain").state == "ready"
    assert not presence.refused


async def test_a_refused_tool_is_told_and_not_published(mesh: Mesh) -> None:
    server = toolbox("box", "good", "better")
    described(server, "better", HIDDEN)
    node = await mesh.node(boxed(server))
    presence = await mesh.heard(lambda presence: bool(presence.refused))
    assert [(tool.name, tool.decision) for tool in presence.refused] == [("box.better", "rejected")]
    assert "description" in presence.refused[0].why
    await mesh.shows({"box.good"})
    with pytest.raises(ToolNotFound):
        await mesh.client.execute("box.better@acme")
    await mesh.agrees(node)


async def test_a_tool_whose_name_no_tool_may_have_is_told_with_the_refused_ones(mesh: Mesh) -> None:
    await mesh.node(boxed(toolbox("box", "a" * 300, "fits")))
    presence = await mesh.heard(lambda presence: bool(presence.refused))
    (refused,) = presence.refused
    assert (refused.name, refused.decision) == (f"box.{'a' * 252}", "rejected")
    assert "256 bytes" in refused.why
    await mesh.shows({"box.fits"})


async def test_a_tool_is_withdrawn_before_its_new_text_is_asked_about(mesh: Mesh) -> None:
    history = await follow(mesh)
    await mesh.node({"plain": plain()})
    await mesh.has("plain.echo", "plain.describe")
    before = mesh.catalog.state.get("acme", "plain.echo")
    assert before is not None
    await mesh.ungovern()
    await mesh.call("plain.describe", text=NEW)
    await mesh.until(lambda: "plain.echo" not in mesh.names())
    with pytest.raises(ToolNotFound):
        await mesh.call("plain.echo", text="a")
    await mesh.govern()
    await mesh.has("plain.echo")
    after = mesh.catalog.state.get("acme", "plain.echo")
    assert after is not None
    assert (before.tool.description, after.tool.description) == (OLD, NEW)
    assert before.entry.digest != after.entry.digest
    kinds = [type(message) for message in history.of["plain.echo"]]
    assert kinds == [CatalogEntry, Withdrawal, CatalogEntry]
    assert await mesh.call("plain.echo", text="a") == "a"


async def test_a_tool_that_turns_bad_is_withdrawn_and_stays_so(mesh: Mesh) -> None:
    node = await mesh.node({"plain": plain()})
    await mesh.has("plain.echo", "plain.describe")
    await mesh.call("plain.describe", text=HIDDEN)
    await mesh.heard(lambda presence: [tool.name for tool in presence.refused] == ["plain.echo"])
    await mesh.until(lambda: "plain.echo" not in mesh.names())
    await mesh.call("plain.describe", text=OLD)
    await mesh.has("plain.echo")
    await mesh.agrees(node)


async def test_a_forged_entry_is_believed_by_nobody_and_the_node_puts_its_own_back(mesh: Mesh) -> None:
    node = await mesh.node(boxed(toolbox("box", "a", "b")), trusted_keys=(str(mesh.key),))
    await mesh.shows({"box.a", "box.b"})
    before = mesh.catalog.state.get("acme", "box.a")
    assert before is not None
    state = mesh.catalog.state.node("acme")
    for forged in (encode(before.entry).replace(b"came", b"went"), b"nonsense"):
        stored = await mesh.bus.store(CATALOG.of("acme", "box.a"), forged)
        await mesh.until(partial(lambda sequence: state.sequences["box.a"] > sequence, stored))
        after = mesh.catalog.state.get("acme", "box.a")
        assert after is not None
        assert after.entry.digest == before.entry.digest
    await mesh.agrees(node)


async def test_tools_that_come_and_go_are_published_and_withdrawn_at_once(mesh: Mesh) -> None:
    node = await mesh.node({"plain": plain()})
    await mesh.until(lambda: len(mesh.names()) == PLAIN_TOOLS)
    before = mesh.names()
    await mesh.call("plain.grow", name="fresh")
    await mesh.shows(before | {"plain.fresh"})
    await mesh.call("plain.drop", name="fresh")
    await mesh.shows(before)
    await mesh.agrees(node)


async def test_a_change_of_a_toolbox_is_published_at_once(mesh: Mesh) -> None:
    node = await mesh.node(boxed(sdk_server("box")))
    await mesh.has("box.grow")
    await mesh.call("box.grow", name="fresh")
    await mesh.has("box.fresh")
    await mesh.agrees(node)


async def test_a_change_that_nobody_told_is_published_after_a_poll(mesh: Mesh) -> None:
    await mesh.node({"plain": plain()}, poll_interval=0.1)
    await mesh.has("plain.quietly")
    await mesh.call("plain.quietly", text=NEW)
    await mesh.until(lambda: any(tool.tool.description == NEW for tool in mesh.catalog.state.tools()))


async def test_what_an_earlier_run_published_goes_once_all_servers_settled(mesh: Mesh) -> None:
    node = await mesh.node(boxed(toolbox("old", "a", "b"), toolbox("kept", "a", "b")))
    await mesh.shows({"old.a", "old.b", "kept.a", "kept.b"})
    await mesh.leave(node)
    history = await follow(mesh)
    slow = toolbox("slow", "a", "b")
    settled = asyncio.Event()
    node = await mesh.make(boxed(slow, toolbox("kept", "a", "b")))
    waiting = node.servers["slow"].settled
    node.servers["slow"].settled = lambda: _both(waiting, settled)  # type: ignore[method-assign]
    mesh.nodes.append(node)
    await node.start()
    await mesh.has("slow.a", "slow.b")
    assert {"old.a", "old.b"} <= mesh.names()
    settled.set()
    await mesh.shows({"slow.a", "slow.b", "kept.a", "kept.b"})
    assert not any(isinstance(message, Withdrawal) for message in history.of["kept.a"])
    await mesh.agrees(node)


async def _both(waiting: Any, event: asyncio.Event) -> None:
    await waiting()
    await event.wait()


async def test_a_server_that_cannot_start_does_not_keep_what_it_had(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "WITHDRAW_AFTER", 0.1)
    node = await mesh.node(boxed(toolbox("box", "a", "b")))
    await mesh.shows({"box.a", "box.b"})
    await mesh.leave(node)
    await mesh.node({"box": BrokenSpec("gone"), **boxed(toolbox("other", "a", "b"))})
    await mesh.shows({"other.a", "other.b"})


async def test_a_failed_server_keeps_its_tools_for_a_while_and_no_longer(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "WITHDRAW_AFTER", 0.7)
    monkeypatch.setattr(supervision, "BACKOFF_MAX", 0.1)
    spec = plain()
    node = await mesh.node({"plain": spec, **boxed(toolbox("box", "a", "b"))})
    await mesh.until(lambda: len(mesh.names()) == PLAIN_TOOLS + 2)
    everything = mesh.names()
    node.servers["plain"]._spec = replace(spec, command="no-such-command-anywhere")
    with pytest.raises(ServerUnavailable, match="went away"):
        await mesh.call("plain.crash")
    state = await mesh.heard(lambda presence: state_of(presence, "plain").state == "failed")
    assert state.tools == len(everything)
    # It fails again and again meanwhile, which must not put the withdrawal off.
    await mesh.shows({"box.a", "box.b"})
    assert node.servers["plain"].state.restarts > 2
    node.servers["plain"]._spec = spec
    await mesh.shows(everything)
    await mesh.agrees(node)


async def test_a_call_of_a_tool_that_went_with_its_server_has_the_server_tried_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "WITHDRAW_AFTER", 0.1)
    monkeypatch.setattr(random, "uniform", lambda *_: 1e6)  # it is not tried again by itself
    spec = plain()
    node = await mesh.node({"plain": spec, **boxed(toolbox("box", "a", "b"))})
    await mesh.has("plain.echo")
    node.servers["plain"]._spec = replace(spec, command="no-such-command-anywhere")
    with pytest.raises(ServerUnavailable):
        await mesh.call("plain.crash")
    await mesh.shows({"box.a", "box.b"})
    assert "plain.echo" not in {tool.name for tool in mesh.client.discover()}
    with pytest.raises(ServerDown):
        await mesh.call("plain.echo", text="x")
    node.servers["plain"]._spec = spec
    assert await mesh.call("plain.echo", text="x") == "x"


async def test_everything_is_published_once_governance_is_there(mesh: Mesh) -> None:
    await mesh.ungovern()
    node = await mesh.node({"plain": plain(), **boxed(toolbox("box", "a", "b"))})
    await mesh.heard(lambda presence: state_of(presence, "plain").state == "ready")
    with capture_logs() as logs:
        await mesh.heard(lambda presence: presence.tools == 0)
        assert mesh.names() == set()
    assert len([log for log in logs if log["event"] == "registrations_delayed"]) <= 1
    await mesh.govern()
    await mesh.has("plain.echo", "box.a", "box.b")
    await mesh.agrees(node)


async def test_a_node_that_is_first_waits_for_the_streams(connect: Connect, tmp_path: Path) -> None:
    mesh = Mesh(connect, tmp_path)
    node = await mesh.make(boxed(toolbox("box", "a", "b")))
    starting = asyncio.create_task(node.start())
    await mesh.open()
    mesh.nodes.append(node)
    await starting
    await mesh.shows({"box.a", "box.b"})
    await mesh.close()


async def test_a_catalog_that_does_not_store_is_tried_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await mesh.make(boxed(toolbox("box", "a", "b")))
    stored, failures = node._bus.store, iter(range(3))

    async def failing(subject: str, payload: bytes, *, expect: int | None = None) -> int:
        if subject.startswith(CATALOG.every("acme")[:-1]) and next(failures, None) is not None:
            raise BusUnavailable("the stream does not answer")
        return await stored(subject, payload, expect=expect)

    monkeypatch.setattr(node._bus, "store", failing)
    mesh.nodes.append(node)
    await node.start()
    await mesh.shows({"box.a", "box.b"})
    assert next(failures, None) is None
    await mesh.agrees(node)


async def test_a_tool_that_governance_cannot_judge_is_told_and_does_not_hold_up_the_rest(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await mesh.make(boxed(toolbox("box", "large", "odd", "broken", "good")))
    request = node._bus.request

    async def refusing(subject: str, payload: bytes, **options: Any) -> Delivery:
        if not subject.startswith(REGISTER.every("acme")):
            return await request(subject, payload, **options)
        name = decode(payload, Registration).tool.name
        if name == "box.large":
            raise PayloadTooLarge("2000000 bytes exceed the limit")
        if name == "box.odd":
            raise InvalidRequest("not a valid message")
        if name == "box.broken":
            raise ZeroDivisionError
        return await request(subject, payload, **options)

    monkeypatch.setattr(node._bus, "request", refusing)
    mesh.nodes.append(node)
    await node.start()
    await mesh.shows({"box.good"})
    presence = await mesh.heard(lambda presence: len(presence.refused) == 2)
    assert [(tool.name, tool.decision) for tool in presence.refused] == [
        ("box.large", "rejected"),
        ("box.odd", "rejected"),
    ]


async def test_of_two_servers_with_one_tool_name_the_first_in_the_config_has_it(mesh: Mesh) -> None:
    # "a" with the tool "b.c", and "a.b" with the tool "c": both are "a.b.c" here.
    first = toolbox("a", "b.c", "x", description="The tool of the first server.")
    second = toolbox("a.b", "c", "y", description="The tool of the second server.")
    for servers in ((first, second), (second, first)):
        with capture_logs() as logs:
            node = await mesh.node(boxed(*servers))
            winner = servers[0]._tool_manager.list_tools()[0].description
            await mesh.until(
                lambda text=winner: (
                    [  # type: ignore[misc]
                        tool.tool.description for tool in mesh.catalog.state.tools() if tool.name == "a.b.c"
                    ]
                    == [text]
                )
            )
            await mesh.has("a.x", "a.b.y")
            await mesh.agrees(node)
        (clash,) = [log for log in logs if log["event"] == "name_taken"]
        assert (clash["server"], clash["holder"]) == (servers[1].name, servers[0].name)
        await mesh.leave(node)


async def test_the_tool_of_a_one_tool_toolbox_keeps_its_name_beside_others(mesh: Mesh) -> None:
    node = await mesh.node(boxed(toolbox("single", "only")))
    await mesh.shows({"only"})
    await mesh.leave(node)
    node = await mesh.node(
        {**boxed(toolbox("more", "a", "b"), toolbox("single", "only")), "bad": plain(NONSENSE)}
    )
    await mesh.shows({"only", "more.a", "more.b"})
    assert await mesh.call("only", text="a") == "a"


async def test_a_replica_whose_server_does_not_start_takes_no_tool_from_the_one_that_serves_it(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "WITHDRAW_AFTER", 0.1)
    await mesh.node(boxed(toolbox("box", "a", "b")))
    await mesh.shows({"box.a", "box.b"})
    state = mesh.catalog.state.node("acme")
    published = dict(state.sequences)
    await mesh.node({"box": plain(EXITS)})
    # Withdrawn by the one, and put back by the other.
    await mesh.until(lambda: all(state.sequences[name] > published[name] + 1 for name in published))
    await mesh.shows({"box.a", "box.b"})

    async def answers() -> bool:
        with suppress(ServerDown):  # it came to the one without a server, each time that it was tried
            return bool(await mesh.call("box.a", text="x") == "x")
        return False

    await eventually(answers)


async def test_a_node_that_restarts_before_its_server_keeps_its_tools_for_a_while(mesh: Mesh) -> None:
    node = await mesh.node(boxed(toolbox("box", "a", "b")))
    await mesh.shows({"box.a", "box.b"})
    await mesh.leave(node)
    node = await mesh.node({"box": plain(EXITS)})
    await mesh.heard(lambda presence: state_of(presence, "box").state == "failed")
    await mesh.until(lambda: node.registrar._settled)
    await mesh.shows({"box.a", "box.b"})
    with pytest.raises(ServerUnavailable):
        await mesh.call("box.a", text="x")


async def test_two_nodes_publish_side_by_side(mesh: Mesh) -> None:
    await mesh.node(boxed(toolbox("box", "a", "b")), name="acme")
    await mesh.node(boxed(toolbox("box", "a", "c")), name="globex")
    await mesh.shows({"box.a", "box.b"}, node="acme")
    await mesh.shows({"box.a", "box.c"}, node="globex")
    assert len(mesh.client.candidates("box.a")) == 2
