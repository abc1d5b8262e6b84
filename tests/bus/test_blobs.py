"""Payloads in chunks: they arrive whole or with a clear error, within bounds, beside other messages."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from random import Random

import pytest

from mcp_federation.bus import blobs as module
from mcp_federation.bus.blobs import CHUNK, HEADROOM, SHARES, WINDOW, Blobs
from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.memory_broker import MemoryBroker
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.contract.messages import Blob
from mcp_federation.contract.subjects import Header
from mcp_federation.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FederationError,
    InvalidRequest,
    NodeLost,
    Overloaded,
    PayloadTooLarge,
)
from tests.conftest import Connect
from tests.support.nats_server import NatsServer
from tests.support.waiting import eventually

MIB = 1024 * 1024
LIMIT = 4 * MIB


def payload_of(size: int) -> bytes:
    return Random(size).randbytes(size)


def digest_of(payload: bytes) -> str:
    return f"sha256:{sha256(payload).hexdigest()}"


class Pair:
    """Who keeps payloads, and who fetches them, on connections of their own."""

    def __init__(self, keeper: Bus, taker: Bus, limit: int = LIMIT) -> None:
        self.keeper = keeper
        self.taker = taker
        self.source = Blobs(keeper, limit=limit)
        self.sink = Blobs(taker, limit=limit)

    async def close(self) -> None:
        await self.source.close()
        await self.sink.close()


@pytest.fixture
async def pair(connect: Connect) -> AsyncIterator[Pair]:
    pair = Pair(await connect(), await connect())
    yield pair
    await pair.close()


@pytest.mark.parametrize(
    "size",
    [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, WINDOW * CHUNK, LIMIT - 1, LIMIT],
    ids=lambda size: f"{size} B",
)
async def test_a_payload_of_any_size_up_to_the_limit_arrives_as_it_was(pair: Pair, size: int) -> None:
    payload = payload_of(size)
    with await pair.source.offer(payload) as offer:
        assert (offer.blob.size, offer.blob.digest) == (size, digest_of(payload))
        assert await pair.sink.fetch(offer.blob, timeout=20) == payload


async def test_64_mib_arrive_and_cost_either_side_no_more_than_once_their_size(connect: Connect) -> None:
    size = 64 * MIB
    pair = Pair(await connect(), await connect(), limit=size)
    payload = payload_of(size)
    tracemalloc.start()
    try:
        with await pair.source.offer(payload) as offer:
            kept, _ = tracemalloc.get_traced_memory()
            fetched = await pair.sink.fetch(offer.blob, timeout=50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await pair.close()
    assert fetched == payload
    assert kept < MIB, "the keeper keeps the payload, and no copy of it"
    assert peak < 2 * size + 8 * MIB, "the payload itself, and once its size to put it together"


@pytest.mark.parametrize("over", [1, LIMIT])
async def test_a_payload_over_the_limit_is_not_offered(pair: Pair, over: int) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        await pair.source.offer(bytes(LIMIT + over))
    assert refused.value.details == {"size": LIMIT + over, "limit": LIMIT}


async def test_a_blob_over_the_limit_is_refused_before_anything_is_fetched(pair: Pair) -> None:
    asked = []

    async def keeper(delivery: Delivery) -> Reply:
        asked.append(delivery.payload)
        return Reply(b"x")

    subject = pair.keeper.new_inbox()
    await pair.keeper.respond(subject, keeper)
    await pair.keeper.flush()
    with pytest.raises(PayloadTooLarge) as refused:
        await pair.sink.fetch(Blob(subject=subject, size=LIMIT + 1, digest=digest_of(b"")), timeout=5)
    assert refused.value.details == {"size": LIMIT + 1, "limit": LIMIT}
    assert asked == []


async def test_whether_a_payload_needs_a_blob_depends_on_what_one_message_holds(pair: Pair) -> None:
    assert not pair.source.needed(pair.keeper.max_payload - HEADROOM)
    assert pair.source.needed(pair.keeper.max_payload - HEADROOM + 1)


async def served(bus: Bus, answer: Callable[[int], bytes | FederationError]) -> str:
    """The subject of somebody who answers for an offset what the test wants."""

    async def respond(delivery: Delivery) -> Reply:
        found = answer(int(delivery.payload))
        if isinstance(found, FederationError):
            raise found
        return Reply(found)

    subject = bus.new_inbox()
    await bus.respond(subject, respond)
    await bus.flush()
    return subject


PAYLOAD = payload_of(3000)


def flipped(offset: int) -> bytes:
    chunk = bytearray(PAYLOAD[offset : offset + 1000])
    if offset == 1000:
        chunk[7] ^= 1
    return bytes(chunk)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (flipped, "digest"),
        (lambda offset: PAYLOAD[offset : min(offset + 1000, 2500)], "ends before"),
        (lambda offset: b"", "ends before"),
        (lambda offset: InvalidRequest("the payload is no longer kept"), "no longer kept"),
    ],
    ids=["a corrupted chunk", "too short", "empty", "an error"],
)
async def test_what_is_not_the_payload_that_was_offered_is_a_clear_error(
    pair: Pair, answer: Callable[[int], bytes | FederationError], why: str
) -> None:
    blob = Blob(subject=await served(pair.keeper, answer), size=3000, digest=digest_of(PAYLOAD))
    with pytest.raises(InvalidRequest, match=why):
        await pair.sink.fetch(blob, timeout=5)


async def test_a_keeper_puts_as_much_into_a_message_as_it_likes(pair: Pair) -> None:
    def answer(offset: int) -> bytes:
        return PAYLOAD[offset : offset + (1000, 1, 1700)[offset % 3]]

    blob = Blob(subject=await served(pair.keeper, answer), size=3000, digest=digest_of(PAYLOAD))
    assert await pair.sink.fetch(blob, timeout=10) == PAYLOAD


@pytest.mark.parametrize(
    "subject", ["mcpfed.v1.cancel.acme", "_INBOX.>", "_INBOX_a b", "_INBOX_a\r\nPUB x 0", ""]
)
async def test_a_blob_sends_no_request_anywhere_but_to_an_inbox(pair: Pair, subject: str) -> None:
    with pytest.raises(InvalidRequest, match="inbox"):
        await pair.sink.fetch(Blob(subject=subject, size=10, digest=digest_of(b"")), timeout=5)


@pytest.mark.parametrize("offset", [b"", b"-1", b"1.5", b"11", b"9" * 40, b"\xff", b"1\n"])
async def test_an_offset_that_is_none_gets_a_clear_error(pair: Pair, offset: bytes) -> None:
    with await pair.source.offer(b"0123456789") as offer:
        reply = await pair.taker.request(offer.blob.subject, offset, timeout=5)
        assert reply.headers[Header.ERROR_CODE] == "400"
        assert await pair.sink.fetch(offer.blob, timeout=5) == b"0123456789", "others are not disturbed"


async def test_a_released_payload_is_fetched_no_more(pair: Pair) -> None:
    offer = await pair.source.offer(PAYLOAD)
    offer.release()
    with pytest.raises(InvalidRequest, match="no longer kept"):
        await pair.sink.fetch(offer.blob, timeout=5)


async def test_a_payload_that_has_arrived_is_kept_no_longer(pair: Pair) -> None:
    with await pair.source.offer(PAYLOAD) as offer:
        assert len(pair.source) == 1
        await pair.sink.fetch(offer.blob, timeout=5)
        await eventually(lambda: len(pair.source) == 0)


async def test_a_payload_that_nobody_asks_for_is_released_by_itself(pair: Pair) -> None:
    offer = await pair.source.offer(PAYLOAD, hold=0.05)
    await eventually(lambda: len(pair.source) == 0)
    assert await fetched(pair, offer.blob) is None


async def fetched(pair: Pair, blob: Blob) -> bytes | None:
    try:
        return await pair.sink.fetch(blob, timeout=5)
    except InvalidRequest:
        return None


async def test_where_too_much_is_kept_the_next_waits_for_its_turn(pair: Pair) -> None:
    offers = [await pair.source.offer(bytes([number]) * LIMIT) for number in range(SHARES)]
    waiting = asyncio.create_task(pair.source.offer(PAYLOAD))
    with pytest.raises(DeadlineExceeded, match="no room"):
        await pair.source.offer(PAYLOAD, timeout=0.02)
    for number, offer in enumerate(offers):
        assert await pair.sink.fetch(offer.blob, timeout=5) == bytes([number]) * LIMIT
    with await waiting as last:
        assert await pair.sink.fetch(last.blob, timeout=5) == PAYLOAD


async def test_what_waits_for_room_makes_it_crowded_in_the_end(pair: Pair) -> None:
    kept = [await pair.source.offer(bytes(LIMIT)) for _ in range(SHARES)]
    waiting = []
    for _ in range(SHARES):
        assert not pair.source.crowded
        waiting.append(asyncio.create_task(pair.source.offer(bytes(LIMIT))))
        await eventually(lambda: pair.source._keeping.wanted == LIMIT * len(waiting))
    assert pair.source.crowded
    for offer in kept:
        offer.release()
    for offer in await asyncio.gather(*waiting):
        assert not pair.source.crowded
        offer.release()


@pytest.mark.parametrize("comes_before", [True, False])
async def test_what_nobody_asks_for_gives_way_to_what_waits(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, comes_before: bool
) -> None:
    """Whether it is idle already when another comes, or only then becomes so."""
    monkeypatch.setattr(module, "IDLE", 0.02)
    idle = [await pair.source.offer(bytes(LIMIT)) for _ in range(SHARES)]
    if not comes_before:
        loop = asyncio.get_running_loop()
        await eventually(lambda: loop.time() - idle[-1]._asked > module.IDLE)
    with await pair.source.offer(PAYLOAD, timeout=5) as offer:
        assert await pair.sink.fetch(offer.blob, timeout=5) == PAYLOAD
    assert any(offer.gave_way for offer in idle)
    assert await fetched(pair, idle[0].blob) is None


async def test_a_keeper_that_has_too_many_requests_is_asked_again(pair: Pair) -> None:
    refused = iter(range(3))

    def answer(offset: int) -> bytes | FederationError:
        if next(refused, None) is not None:
            return Overloaded("too many requests at once")
        return PAYLOAD[offset : offset + 1000]

    blob = Blob(subject=await served(pair.keeper, answer), size=3000, digest=digest_of(PAYLOAD))
    assert await pair.sink.fetch(blob, timeout=10) == PAYLOAD


async def test_far_more_than_there_is_room_for_arrives_in_turn(pair: Pair) -> None:
    async def pass_on(number: int) -> bool:
        payload = bytes([number]) * (LIMIT // 2)
        with await pair.source.offer(payload, timeout=20) as offer:
            return await pair.sink.fetch(offer.blob, timeout=20) == payload

    assert all(await asyncio.gather(*(pass_on(number) for number in range(6 * SHARES))))


async def test_what_is_fetched_at_a_time_is_bounded_and_the_rest_waits_its_turn(pair: Pair) -> None:
    asked: set[str] = set()
    gate = asyncio.Event()

    async def keeper(delivery: Delivery) -> Reply:
        asked.add(delivery.subject)
        await gate.wait()
        return Reply(bytes(LIMIT)[int(delivery.payload) :][:CHUNK])

    inbox = pair.keeper.new_inbox()
    await pair.keeper.respond(f"{inbox}.*", keeper)
    await pair.keeper.flush()
    number = SHARES + 2
    blobs = [Blob(subject=f"{inbox}.{n}", size=LIMIT, digest=digest_of(bytes(LIMIT))) for n in range(number)]
    fetches = [asyncio.create_task(pair.sink.fetch(blob, timeout=20)) for blob in blobs]
    await eventually(lambda: len(asked) == SHARES)
    with pytest.raises(DeadlineExceeded):
        await pair.sink.fetch(blobs[0], timeout=0.05)
    assert len(asked) == SHARES
    gate.set()
    assert all(len(payload) == LIMIT for payload in await asyncio.gather(*fetches))


async def test_a_fetch_that_is_given_up_makes_room_for_the_next(pair: Pair) -> None:
    async def silent(delivery: Delivery) -> None:
        return None

    subject = pair.keeper.new_inbox()
    await pair.keeper.respond(subject, silent)
    await pair.keeper.flush()
    blob = Blob(subject=subject, size=LIMIT, digest=digest_of(b""))
    for _ in range(SHARES + 1):
        with pytest.raises(DeadlineExceeded, match="did not arrive"):
            await pair.sink.fetch(blob, timeout=0.02)
    with await pair.source.offer(PAYLOAD) as offer:
        assert await pair.sink.fetch(offer.blob, timeout=5) == PAYLOAD


async def test_a_lost_chunk_is_asked_for_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_AGAIN", 0.05)
    lost = {0, 2000}

    async def forgetful(delivery: Delivery) -> Reply | None:
        offset = int(delivery.payload)
        if offset in lost:
            lost.remove(offset)
            return None
        return Reply(PAYLOAD[offset : offset + 1000])

    subject = pair.keeper.new_inbox()
    await pair.keeper.respond(subject, forgetful)
    await pair.keeper.flush()
    blob = Blob(subject=subject, size=3000, digest=digest_of(PAYLOAD))
    assert await pair.sink.fetch(blob, timeout=5) == PAYLOAD
    assert not lost


async def test_a_keeper_that_goes_away_half_way_is_told_from_a_slow_one(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_AGAIN", 0.2)
    dying, taker = await connect(), await connect()
    half_way = asyncio.Event()

    async def keeper(delivery: Delivery) -> Reply | None:
        if int(delivery.payload) >= 10:
            half_way.set()
            return None
        return Reply(b"x")

    subject = dying.new_inbox()
    await dying.respond(subject, keeper)
    await dying.flush()
    fetch = asyncio.create_task(
        Blobs(taker, limit=LIMIT).fetch(Blob(subject=subject, size=20, digest=digest_of(b"")), timeout=20)
    )
    await half_way.wait()
    await dying.close()
    with pytest.raises(NodeLost):
        await fetch


async def test_nobody_keeps_what_a_closed_connection_offered(connect: Connect) -> None:
    keeper, taker = await connect(), await connect()
    offer = await Blobs(keeper).offer(PAYLOAD)
    await keeper.close()
    with pytest.raises(NodeLost):
        await Blobs(taker).fetch(offer.blob, timeout=5)
    offer.release()


@pytest.mark.bus
async def test_a_connection_that_breaks_half_way_is_told(own_nats_server: NatsServer) -> None:
    async with await NatsBus.connect(own_nats_server.url) as bus:
        asked = asyncio.Event()

        async def silent(delivery: Delivery) -> None:
            asked.set()

        subject = bus.new_inbox()
        await bus.respond(subject, silent)
        blob = Blob(subject=subject, size=20, digest=digest_of(b""))
        fetch = asyncio.create_task(Blobs(bus).fetch(blob, timeout=20))
        await asked.wait()
        own_nats_server.kill()
        with pytest.raises(ConnectionLost):
            await fetch
        with pytest.raises(ConnectionLost):
            await Blobs(bus).fetch(blob, timeout=20)


async def test_other_messages_pass_while_a_large_payload_is_under_way(connect: Connect) -> None:
    size = 32 * MIB
    pair = Pair(await connect(), await connect(), limit=size)

    async def echo(delivery: Delivery) -> Reply:
        return Reply(delivery.payload)

    await pair.keeper.respond("echo", echo)
    await pair.keeper.flush()
    with await pair.source.offer(bytes(size)) as offer:
        fetch = asyncio.create_task(pair.sink.fetch(offer.blob, timeout=30))
        answered = 0
        while not fetch.done():
            # On the same connections, both of them.
            assert (await pair.taker.request("echo", b"hello", timeout=5)).payload == b"hello"
            answered += 1
        assert await fetch == bytes(size)
    await pair.close()
    assert answered >= size // CHUNK // WINDOW, "as many at least as there are rounds of chunks"


async def test_a_small_message_limit_makes_small_chunks() -> None:
    async with AsyncExitStack() as stack:
        broker = MemoryBroker(max_payload=16 * 1024)
        buses = [await stack.enter_async_context(MemoryBus(broker)) for _ in range(2)]
        pair = Pair(buses[0], buses[1])
        payload = payload_of(200_000)
        with await pair.source.offer(payload) as offer:
            assert await pair.sink.fetch(offer.blob, timeout=5) == payload
        await pair.close()


async def test_closing_forgets_every_payload_and_its_subject(pair: Pair) -> None:
    offer = await pair.source.offer(PAYLOAD)
    await pair.source.close()
    with pytest.raises(NodeLost):
        await pair.sink.fetch(offer.blob, timeout=5)
    with await pair.source.offer(PAYLOAD) as again:
        assert await pair.sink.fetch(again.blob, timeout=5) == PAYLOAD
