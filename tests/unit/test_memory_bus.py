"""The bus in memory, where it stands for NATS: subjects, closing, and what nobody waits for."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.memory_broker import MemoryBroker, matches
from mcp_federation.bus.protocol import Delivery, Reply, Stored
from mcp_federation.contract.subjects import CATALOG_STREAM, StreamSpec, Template
from mcp_federation.errors import BusUnavailable, DeadlineExceeded

DIARY = StreamSpec("DIARY", Template("diary"))
TODAY = DIARY.template.of("acme")


@pytest.mark.parametrize(
    ("pattern", "subject", "matched"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
    ],
)
def test_wildcards_match_as_nats_has_it(pattern: str, subject: str, matched: bool) -> None:
    assert matches(pattern, subject) is matched


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(".".join))
def test_every_subject_matches_itself_and_everything(subject: str) -> None:
    assert matches(subject, subject)
    assert matches(">", subject)


async def test_a_bus_that_is_closed_refuses_to_send() -> None:
    bus = MemoryBus()
    assert bus.connected
    await bus.close()
    assert not bus.connected
    for call in (bus.publish("a", b""), bus.request("a", b"", timeout=1), bus.store(TODAY, b"")):
        with pytest.raises(BusUnavailable):
            await call


async def test_a_message_to_a_responder_that_waits_for_no_answer_is_handled_all_the_same() -> None:
    handled = asyncio.Event()

    async def respond(_: Delivery) -> Reply:
        handled.set()
        return Reply(b"to nobody")

    async with MemoryBus() as bus:
        await bus.respond("a", respond)
        await bus.publish("a", b"")
        await asyncio.wait_for(handled.wait(), 5)


async def test_the_limit_of_a_message_is_the_broker_s() -> None:
    assert MemoryBus(MemoryBroker(max_payload=10)).max_payload == 10


async def test_a_subscription_may_be_closed_twice() -> None:
    async def nothing(_: Delivery) -> None: ...

    async with MemoryBus() as bus:
        subscription = await bus.subscribe("a", nothing)
        await subscription.close()
        await subscription.close()


async def test_a_worker_that_is_closed_has_finished_its_batch() -> None:
    entered, gate, done = asyncio.Event(), asyncio.Event(), []

    async def work(batch: list[Stored]) -> None:
        entered.set()
        await gate.wait()
        done.extend(batch)

    async with MemoryBus() as bus:
        await bus.ensure_stream(DIARY)
        worker = await bus.consume(DIARY, "workers", work)
        await bus.store(TODAY, b"1")
        await asyncio.wait_for(entered.wait(), 5)
        closing = asyncio.create_task(worker.close())
        gate.set()
        await asyncio.wait_for(closing, 5)
    assert [stored.payload for stored in done] == [b"1"]


async def test_a_worker_waits_for_its_stream() -> None:
    done = asyncio.Event()

    async def work(_: list[Stored]) -> None:
        done.set()

    async with MemoryBus() as bus:
        await bus.consume(DIARY, "workers", work)
        await bus.ensure_stream(CATALOG_STREAM)
        await bus.ensure_stream(DIARY)
        await bus.store(TODAY, b"1")
        await asyncio.wait_for(done.wait(), 5)


async def test_a_follower_of_a_stream_that_never_comes_can_be_closed() -> None:
    async def nothing(_: Stored) -> None: ...

    async with MemoryBus() as bus:
        follower = await bus.follow(DIARY, nothing)
        with pytest.raises(DeadlineExceeded):
            await follower.caught_up(0.01)
        await bus.flush()
