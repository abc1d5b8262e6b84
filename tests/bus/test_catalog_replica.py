"""The replica of the catalog: complete, believing only what is approved, aware of what it missed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog import replica as replica_module
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.contract.messages import SERVER_DOWN, Presence, Withdrawal, encode
from mcp_federation.contract.subjects import CATALOG, CATALOG_STREAM, PRESENCE, RULING_STREAM
from mcp_federation.errors import DeadlineExceeded
from mcp_federation.trust.approvals import ApprovalVerifier, Approver
from tests.conftest import Connect
from tests.support.publishing import Publisher

StartReplica = Callable[[Publisher], Awaitable[CatalogReplica]]


KEY = Ed25519PrivateKey.generate()


@pytest.fixture
async def publisher(bus: Bus) -> Publisher:
    await bus.ensure_stream(CATALOG_STREAM)
    await bus.ensure_stream(RULING_STREAM)
    return Publisher(bus, approver=Approver(KEY))


@pytest.fixture
async def start_replica(connect: Connect) -> AsyncIterator[StartReplica]:
    async with AsyncExitStack() as stack:

        async def start(publisher: Publisher) -> CatalogReplica:
            replica = CatalogReplica(await connect(), publisher.verifier)
            await replica.start()
            stack.push_async_callback(replica.stop)
            return replica

        yield start


def names(replica: CatalogReplica) -> set[str]:
    return {tool.federated_name for tool in replica.state.tools()}


async def until(replica: CatalogReplica, condition: Callable[[], bool]) -> None:
    assert await replica.wait_until(condition, 10)


async def test_it_has_what_was_published_before_and_follows_what_comes(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    await publisher.publish("old")
    await publisher.publish("gone")
    await publisher.withdraw("gone")
    replica = await start_replica(publisher)
    assert names(replica) == {"old@acme"}
    await publisher.publish("new")
    await until(replica, lambda: names(replica) == {"old@acme", "new@acme"})
    await publisher.withdraw("old")
    await until(replica, lambda: names(replica) == {"new@acme"})
    found = replica.state.get("acme", "new")
    assert found is not None
    assert (found.node, found.name, found.executable) == ("acme", "new", True)
    assert [tool.node for tool in replica.state.providers("new")] == ["acme"]


async def test_without_a_catalog_it_says_so(bus: Bus) -> None:
    replica = CatalogReplica(bus, ApprovalVerifier([]))
    with pytest.raises(DeadlineExceeded):
        await replica.start(0.05)
    await replica.stop()


@pytest.mark.parametrize("fault", ["other key", "other text", "other node", "expired", "forged"])
async def test_an_entry_whose_approval_does_not_hold_does_not_exist(
    publisher: Publisher, start_replica: StartReplica, fault: str
) -> None:
    entry = publisher.entry("bad")
    if fault == "other key":
        approval = Approver(Ed25519PrivateKey.generate()).approve("acme", "bad", entry.digest)
    elif fault == "other node":
        approval = publisher.approver.approve("globex", "bad", entry.digest)
    elif fault == "expired":
        approval = Approver(KEY, timedelta(hours=-1)).approve("acme", "bad", entry.digest)
    elif fault == "forged":
        approval = entry.approval[:-4] + "AAAA"
    else:
        approval = entry.approval
        entry = msgspec.structs.replace(
            entry, tool=msgspec.structs.replace(entry.tool, description="Something else altogether.")
        )
    entry = msgspec.structs.replace(entry, approval=approval)
    await publisher.bus.store(CATALOG.of("acme", "bad"), encode(entry))
    await publisher.publish("good")
    replica = await start_replica(publisher)
    await until(replica, lambda: "good@acme" in names(replica))
    assert names(replica) == {"good@acme"}
    assert replica.state.get("acme", "bad") is None
    assert "bad" in replica.state.node("acme").refused


async def test_a_changed_text_under_the_old_approval_takes_the_tool_away(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    await publisher.publish("tool", "The honest description of it.")
    replica = await start_replica(publisher)
    assert names(replica) == {"tool@acme"}
    approved = publisher.entry("tool", "The honest description of it.")
    poisoned = publisher.entry("tool", "Quite another description.")
    await publisher.publish("tool", "Quite another description.", approval=approved.approval)
    await until(replica, lambda: not names(replica))
    await publisher.publish(
        "tool", "Quite another description.", digest=approved.digest, approval=approved.approval
    )
    await publisher.publish("next")
    await until(replica, lambda: "next@acme" in names(replica))
    assert names(replica) == {"next@acme"}
    assert poisoned.digest != approved.digest


async def test_messages_that_make_no_sense_are_passed_over(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    replica = await start_replica(publisher)
    for payload in (
        b"",
        b"null",
        b"{}",
        b'{"type":"catalog_entry"}',
        b"\xff",
        encode(publisher.entry("elsewhere")),
    ):
        await publisher.bus.store(CATALOG.of("acme", "nonsense"), payload)
    elsewhere = publisher.entry("nonsense", execute_subject="mcpfed.v1.execute.globex.nonsense")
    await publisher.bus.store(CATALOG.of("acme", "nonsense"), encode(elsewhere))
    await publisher.bus.publish(PRESENCE.of("acme"), b"nonsense")
    await publisher.bus.publish(
        PRESENCE.of("acme"), encode(Presence(node="globex", instance="x", interval=1, catalog_hash=""))
    )
    await publisher.publish("good")
    await until(replica, lambda: names(replica) == {"good@acme"})
    assert "globex" not in replica.state.nodes


async def test_a_silent_node_is_unavailable_and_comes_back(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    await publisher.publish("tool")
    replica = await start_replica(publisher)
    assert replica.state.is_available("acme")
    await publisher.presence(interval=0.02)
    await until(replica, lambda: bool(replica.state.node("acme").instances))
    await until(replica, lambda: not replica.state.is_available("acme"))
    assert names(replica) == {"tool@acme"}
    await publisher.presence()
    await until(replica, lambda: replica.state.is_available("acme"))


async def test_a_node_that_was_never_heard_of_is_soon_unavailable(
    publisher: Publisher, start_replica: StartReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "FIRST_INTERVAL", 0.02)
    await publisher.publish("tool")
    replica = await start_replica(publisher)
    await until(replica, lambda: not replica.state.is_available("acme"))


async def test_a_node_that_leaves_is_unavailable_once_its_last_replica_left(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    await publisher.publish("tool")
    replica = await start_replica(publisher)
    for instance in ("one", "two"):
        await publisher.presence(instance=instance)
    await until(replica, lambda: len(replica.state.node("acme").instances) == 2)
    await publisher.presence(instance="one", status="leaving")
    await until(replica, lambda: len(replica.state.node("acme").instances) == 1)
    assert replica.state.is_available("acme")
    await publisher.presence(instance="two", status="leaving")
    await until(replica, lambda: not replica.state.is_available("acme"))


async def test_a_call_that_found_nobody_makes_the_node_unavailable_until_it_is_heard(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    await publisher.publish("tool")
    replica = await start_replica(publisher)
    replica.note_unavailable("acme")
    replica.note_unavailable("nobody")
    assert not replica.state.is_available("acme")
    await publisher.presence()
    await until(replica, lambda: replica.state.is_available("acme"))


async def test_it_replays_a_node_whose_hash_differs_and_forgets_what_is_no_longer_there(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    await publisher.publish("kept")
    await publisher.publish("lost")
    replica = await start_replica(publisher)
    # As if the entry's withdrawal and another one's publication had been missed on the way.
    replica.state.publish(publisher.entry("ghost"), 0, "never published")
    replica.state.node("acme").published.drop("lost")
    replica.state.node("acme").tools.pop("lost")
    await publisher.presence()
    await until(replica, lambda: bool(replica.state.node("acme").instances))
    await publisher.presence()
    await until(replica, lambda: replica.state.node("acme").published.hash == publisher.published.hash)
    assert names(replica) == {"kept@acme", "lost@acme"}


async def test_an_approval_that_runs_out_takes_the_tool_away(
    publisher: Publisher, start_replica: StartReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publisher.publish("tool")
    replica = await start_replica(publisher)
    tool = replica.state.get("acme", "tool")
    assert tool is not None
    monkeypatch.setattr("mcp_federation.catalog.state.time.time", lambda: tool.expires + 1)
    assert replica.state.get("acme", "tool") is None
    assert not replica.state.providers("tool")
    assert not names(replica)


async def test_a_withdrawal_that_arrives_late_does_not_undo_a_newer_entry(publisher: Publisher) -> None:
    replica = CatalogReplica(publisher.bus, publisher.verifier)
    entry = publisher.entry("tool")
    assert replica.state.publish(entry, 7, "whatever")
    assert not replica.state.withdraw("acme", "tool", 3)
    assert not replica.state.publish(entry, 6, "older")
    assert replica.state.node("acme").refused == {"tool": "whatever"}


async def test_a_tool_whose_server_is_down_is_remembered_and_not_shown(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    await publisher.publish("tool")
    replica = await start_replica(publisher)
    state = replica.state
    for reason, down in ((SERVER_DOWN, ["tool"]), ("it changed, and awaits approval", [])):
        for name in ("tool", "never published"):
            withdrawal = Withdrawal(node="acme", name=name, reason=reason)
            await publisher.bus.store(CATALOG.of("acme", name), encode(withdrawal))
        await publisher.publish("then")
        await until(replica, lambda: names(replica) == {"then@acme"})
        assert [tool.name for tool in state.down("tool")] == down
        assert state.down("tool", "acme") == state.down("tool")
        assert state.down("tool", "globex") == state.down("never published") == []
        if down:
            state.revoke("acme", "tool", state.down("tool")[0].issued)
            assert state.down("tool") == []
            state.node("acme").revoked.clear()
        await publisher.publish("tool")
        await until(replica, lambda: "tool@acme" in names(replica))
        assert state.down("tool") == []
        await publisher.withdraw("then")
        await until(replica, lambda: "then@acme" not in names(replica))


async def test_listeners_hear_of_every_change(publisher: Publisher, start_replica: StartReplica) -> None:
    replica = await start_replica(publisher)
    heard = asyncio.Event()
    replica.on_change(heard.set)
    await publisher.publish("tool")
    async with asyncio.timeout(10):
        await heard.wait()


async def test_listeners_hear_of_a_node_that_goes_and_not_of_its_heartbeats(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    replica = await start_replica(publisher)
    await publisher.publish("tool")
    await until(replica, lambda: names(replica) == {"tool@acme"})
    heard: list[bool] = []
    replica.on_change(lambda: heard.append(replica.state.is_available("acme")))
    for _ in range(3):
        await publisher.presence()
    await publisher.presence(status="leaving")
    await until(replica, lambda: not replica.state.is_available("acme"))
    await publisher.presence()
    await until(replica, lambda: replica.state.is_available("acme"))
    assert heard == [False, True]


async def test_the_withdrawal_of_an_unknown_tool_is_no_fault(
    publisher: Publisher, start_replica: StartReplica
) -> None:
    replica = await start_replica(publisher)
    await publisher.bus.store(CATALOG.of("acme", "x"), encode(Withdrawal(node="acme", name="x")))
    await publisher.publish("tool")
    await until(replica, lambda: names(replica) == {"tool@acme"})
