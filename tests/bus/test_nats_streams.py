"""Streams over NATS: lost messages, lost consumers, lost streams, and what becomes of readers."""

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import StreamConfig

from mcp_federation.bus import nats_streams
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Delivery, Reply, Stored
from mcp_federation.contract.subjects import StreamSpec, Template
from mcp_federation.errors import BusUnavailable, DeadlineExceeded
from tests.support.nats_server import NatsServer, restart
from tests.support.waiting import eventually

pytestmark = pytest.mark.bus

LETTERS = StreamSpec("LETTERS", Template("letter", has_tool=True), last_per_subject=True)
DIARY = StreamSpec("DIARY", Template("diary"))
TODAY = DIARY.template.of("acme")


class Pages:
    """Collects what a stream brings, in order."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, stored: Stored) -> None:
        async with self._arrived:
            self.seen.append(stored.payload)
            self._arrived.notify_all()

    async def batch(self, batch: list[Stored]) -> None:
        for stored in batch:
            await self(stored)

    async def until(self, last: bytes) -> list[bytes]:
        async with asyncio.timeout(15), self._arrived:
            await self._arrived.wait_for(lambda: last in self.seen)
        return self.seen


@pytest.fixture
async def bus(own_nats_server: NatsServer) -> AsyncIterator[NatsBus]:
    async with await NatsBus.connect(own_nats_server.url) as connected:
        yield connected


@pytest.fixture
async def raw(own_nats_server: NatsServer) -> AsyncIterator[Client]:
    """A plain client beside the bus."""
    client = await nats.connect(own_nats_server.url, allow_reconnect=False)
    yield client
    await client.close()


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_streams, "HEARTBEAT", 0.1)
    monkeypatch.setattr(nats_streams, "RETRY_PAUSE", 0.1)


async def write(bus: NatsBus, *pages: bytes) -> None:
    for page in pages:
        await bus.store(TODAY, page)


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_follower_goes_on_over_a_restart_with_nothing_lost_or_doubled(
    own_nats_server: NatsServer, bus: NatsBus
) -> None:
    await bus.ensure_stream(DIARY)
    pages = Pages()
    await bus.follow(DIARY, pages)
    await write(bus, b"1", b"2")
    await pages.until(b"2")
    await restart(own_nats_server, bus)
    await write(bus, b"3", b"4")
    assert await pages.until(b"4") == [b"1", b"2", b"3", b"4"]


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_worker_goes_on_over_a_restart_and_leaves_nothing_undone(
    own_nats_server: NatsServer, bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_streams, "FETCH_TIMEOUT", 0.5)
    await bus.ensure_stream(DIARY)
    pages = Pages()
    await bus.consume(DIARY, "workers", pages.batch)
    await write(bus, b"1")
    await pages.until(b"1")
    await restart(own_nats_server, bus)
    await write(bus, b"2", b"3")
    await pages.until(b"3")
    assert set(pages.seen) == {b"1", b"2", b"3"}


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_stream_that_was_deleted_and_made_anew_is_followed_from_its_beginning(
    bus: NatsBus, raw: Client
) -> None:
    await bus.ensure_stream(DIARY)
    pages = Pages()
    await bus.follow(DIARY, pages)
    await write(bus, b"1", b"2", b"3")
    await pages.until(b"3")
    await raw.jetstream().delete_stream(DIARY.name)
    await bus.ensure_stream(DIARY)
    await write(bus, b"new 1", b"new 2", b"new 3", b"new 4")
    assert await pages.until(b"new 4") == [b"1", b"2", b"3", b"new 1", b"new 2", b"new 3", b"new 4"]


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_follower_whose_consumer_vanished_starts_over_behind_what_it_handled(
    bus: NatsBus, raw: Client
) -> None:
    js = raw.jetstream()
    await bus.ensure_stream(DIARY)
    pages = Pages()
    await bus.follow(DIARY, pages)
    await write(bus, b"1", b"2")
    await pages.until(b"2")
    (consumer,) = await js.consumers_info(DIARY.name)
    assert consumer.name
    await js.delete_consumer(DIARY.name, consumer.name)
    await write(bus, b"3")
    assert await pages.until(b"3") == [b"1", b"2", b"3"]


async def test_a_message_that_is_lost_on_its_way_is_read_anew(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Subscription.next_msg
    lost: list[bytes] = []

    async def lose_one(sub: Subscription, timeout: float | None = 1.0) -> Msg:
        msg = await read(sub, timeout)
        if msg.data == b"2" and not lost:
            lost.append(msg.data)
            return await read(sub, timeout)
        return msg

    monkeypatch.setattr(Subscription, "next_msg", lose_one)
    await bus.ensure_stream(DIARY)
    pages = Pages()
    await bus.follow(DIARY, pages)
    await write(bus, b"1", b"2", b"3")
    assert await pages.until(b"3") == [b"1", b"2", b"3"]
    assert lost


async def test_a_message_that_is_not_of_the_stream_is_not_taken_for_one(bus: NatsBus, raw: Client) -> None:
    await bus.ensure_stream(DIARY)
    pages = Pages()
    await bus.follow(DIARY, pages)
    await write(bus, b"1")
    await pages.until(b"1")
    (consumer,) = await raw.jetstream().consumers_info(DIARY.name)
    assert consumer.config.deliver_subject
    await raw.publish(consumer.config.deliver_subject, b"forged")
    await raw.flush()
    await write(bus, b"2")
    assert await pages.until(b"2") == [b"1", b"2"]


@pytest.mark.usefixtures("quick_heartbeat")
async def test_a_heartbeat_that_tells_of_missed_messages_makes_a_follower_start_over(
    bus: NatsBus, raw: Client
) -> None:
    js = raw.jetstream()
    await bus.ensure_stream(DIARY)
    pages = Pages()
    await bus.follow(DIARY, pages)
    await write(bus, b"1")
    await pages.until(b"1")
    (consumer,) = await js.consumers_info(DIARY.name)
    inbox = consumer.config.deliver_subject
    assert inbox
    await raw.publish(inbox, headers={"Status": "100", "Nats-Last-Consumer": "7"})

    async def renewed() -> bool:
        names = [info.name for info in await js.consumers_info(DIARY.name)]
        return names != [consumer.name] and len(names) == 1

    await eventually(renewed)
    await write(bus, b"2")
    assert await pages.until(b"2") == [b"1", b"2"]


async def test_a_long_replay_is_paced_by_flow_control_and_complete(bus: NatsBus) -> None:
    await bus.ensure_stream(DIARY)
    page = b"x" * 100_000
    await asyncio.gather(*(bus.store(TODAY, page + str(number).encode()) for number in range(100)))
    pages = Pages()
    follower = await bus.follow(DIARY, pages)
    await follower.caught_up(20)
    assert len(pages.seen) == len(set(pages.seen)) == 100


async def test_a_follower_that_is_closed_leaves_no_consumer_behind(bus: NatsBus, raw: Client) -> None:
    await bus.ensure_stream(DIARY)
    follower = await bus.follow(DIARY, Pages())
    await follower.caught_up(10)
    await follower.close()
    assert await raw.jetstream().consumers_info(DIARY.name) == []


async def test_a_stream_takes_on_another_configuration(bus: NatsBus, raw: Client) -> None:
    await raw.jetstream().add_stream(
        StreamConfig(name="LETTERS", subjects=[LETTERS.template.every()], allow_direct=True)
    )
    await bus.ensure_stream(LETTERS)
    for text in (b"old", b"new"):
        await bus.store(LETTERS.template.of("acme", "a"), text)
    info = await raw.jetstream().stream_info("LETTERS")
    assert (info.config.max_msgs_per_subject, info.state.messages) == (1, 1)


async def test_what_an_operator_set_of_a_stream_stays(bus: NatsBus, raw: Client) -> None:
    await bus.ensure_stream(LETTERS)
    config = (await raw.jetstream().stream_info("LETTERS")).config
    await raw.jetstream().update_stream(config.evolve(max_msg_size=1000, max_msgs_per_subject=5))
    await bus.ensure_stream(LETTERS)
    config = (await raw.jetstream().stream_info("LETTERS")).config
    assert (config.max_msg_size, config.max_msgs_per_subject) == (1000, 1)


async def test_who_waits_for_a_stream_that_there_is_not_is_told_so(bus: NatsBus) -> None:
    follower = await bus.follow(DIARY, Pages())
    with pytest.raises(DeadlineExceeded, match=r"DIARY was not replayed within 0\.5 s: .* no such stream"):
        await follower.caught_up(0.5)


async def test_a_stream_that_cannot_be_made_says_so(bus: NatsBus) -> None:
    await bus.ensure_stream(DIARY)
    with pytest.raises(BusUnavailable, match="OTHER cannot be made"):
        await bus.ensure_stream(StreamSpec("OTHER", DIARY.template))


async def test_a_stream_that_refuses_a_message_says_so(bus: NatsBus, raw: Client) -> None:
    await raw.jetstream().add_stream(
        StreamConfig(name=DIARY.name, subjects=[DIARY.template.every()], max_msg_size=10)
    )
    with pytest.raises(BusUnavailable, match="refused"):
        await bus.store(TODAY, b"x" * 100)


async def test_what_is_answered_by_no_stream_is_not_kept(bus: NatsBus) -> None:
    async def impostor(_: Delivery) -> Reply:
        return Reply(b"no acknowledgement")

    await bus.respond(TODAY, impostor)
    with pytest.raises(BusUnavailable):
        await bus.store(TODAY, b"1")


async def test_a_stalled_consumer_is_told_to_go_on(bus: NatsBus, raw: Client) -> None:
    await bus.ensure_stream(DIARY)
    follower = await bus.follow(DIARY, Pages())
    await follower.caught_up(10)
    (consumer,) = await raw.jetstream().consumers_info(DIARY.name)
    assert consumer.config.deliver_subject
    resumed = await raw.subscribe("resume", max_msgs=1)
    await raw.publish(
        consumer.config.deliver_subject, headers={"Status": "100", "Nats-Consumer-Stalled": "resume"}
    )
    assert (await resumed.next_msg(timeout=5)).data == b""
