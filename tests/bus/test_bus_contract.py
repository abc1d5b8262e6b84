"""What every bus promises, tried on each of them."""

import asyncio
import gc
import weakref
from datetime import timedelta

import pytest

from mcp_federation.bus.protocol import Bus, Delivery, Reply, Stored
from mcp_federation.contract.messages import ErrorReply, decode
from mcp_federation.contract.subjects import Header, StreamSpec, Template
from mcp_federation.errors import (
    BusUnavailable,
    Conflict,
    DeadlineExceeded,
    InvalidArguments,
    NodeUnavailable,
    PayloadTooLarge,
)
from tests.conftest import Connect
from tests.support.waiting import eventually

OVER_NATS = [pytest.param(how, marks=pytest.mark.bus) for how in ("nats", "websocket")]

pytestmark = [
    pytest.mark.parametrize("connect", ["memory", *OVER_NATS], indirect=True),
    pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning"),  # of nats-py to aiohttp
]

LETTERS = StreamSpec("LETTERS", Template("letter", has_tool=True), last_per_subject=True)
DIARY = StreamSpec("DIARY", Template("diary"), max_age=timedelta(days=1), max_bytes=1_000_000)


class Inbox:
    """Collects what arrives and lets a test wait for a number of them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Delivery | Stored] = asyncio.Queue()

    async def __call__(self, message: Delivery | Stored) -> None:
        self.queue.put_nowait(message)

    async def take(self, number: int = 1) -> list[bytes]:
        async with asyncio.timeout(10):
            return [(await self.queue.get()).payload for _ in range(number)]


async def test_an_event_reaches_every_subscriber_and_carries_its_headers(connect: Connect) -> None:
    one, two, sender = await connect(), await connect(), await connect()
    first, second = Inbox(), Inbox()
    await one.subscribe("a.*", first)
    await two.subscribe("a.b", second)
    await one.flush()
    await two.flush()
    await sender.publish("a.b", b"hello", {"X-Kind": "greeting"})
    assert await first.take() == [b"hello"]
    received = await asyncio.wait_for(second.queue.get(), 5)
    assert isinstance(received, Delivery)
    assert (received.subject, received.headers["X-Kind"], received.reply) == ("a.b", "greeting", None)


async def test_one_member_of_a_queue_group_gets_each_message(connect: Connect) -> None:
    inbox = Inbox()
    for _ in range(3):
        member = await connect()
        await member.subscribe("work", inbox, queue="workers")
        await member.flush()
    sender = await connect()
    for number in range(30):
        await sender.publish("work", str(number).encode())
    assert sorted(await inbox.take(30), key=int) == [str(n).encode() for n in range(30)]
    assert inbox.queue.empty()


async def test_what_was_closed_is_not_kept_for_as_long_as_the_bus(bus: Bus) -> None:
    await bus.ensure_stream(DIARY)
    inbox = Inbox()
    closed = weakref.ref(inbox)
    for subscription in (
        await bus.subscribe("a", inbox),
        await bus.follow(DIARY, inbox),
    ):
        await subscription.close()
    del inbox, subscription
    await bus.subscribe("b", Inbox())
    gc.collect()
    assert closed() is None


async def test_a_handler_that_raises_does_not_end_the_subscription(bus: Bus) -> None:
    inbox = Inbox()

    async def fragile(delivery: Delivery) -> None:
        if delivery.payload == b"bad":
            raise ValueError(delivery.payload)
        await inbox(delivery)

    await bus.subscribe("a", fragile)
    for payload in (b"bad", b"good"):
        await bus.publish("a", payload)
    assert await inbox.take() == [b"good"]


async def test_handlers_run_at_the_same_time_up_to_the_limit(bus: Bus) -> None:
    running, peak, gate = 0, 0, asyncio.Event()
    inbox = Inbox()

    async def slow(delivery: Delivery) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if running == 4:
            gate.set()
        await gate.wait()
        running -= 1
        await inbox(delivery)

    await bus.subscribe("a", slow, limit=4)
    for _ in range(12):
        await bus.publish("a", b"")
    await inbox.take(12)
    assert peak == 4


async def test_a_request_is_answered_once_with_the_answer_s_own_headers(bus: Bus) -> None:
    async def echo(delivery: Delivery) -> Reply:
        return Reply(delivery.payload.upper(), {"X-Answer": "yes"})

    await bus.respond("echo", echo)
    answer = await bus.request("echo", b"hi", timeout=5, headers={"Authorization": "secret"})
    assert answer.payload == b"HI"
    assert answer.headers["X-Answer"] == "yes"
    assert "Authorization" not in answer.headers


async def test_a_request_that_is_handed_on_is_answered_by_who_takes_it_then(bus: Bus) -> None:
    async def pick(delivery: Delivery) -> Reply | None:
        if "X-Again" in delivery.headers:
            return Reply(delivery.payload + delivery.headers["X-Again"].encode())
        await bus.hand_on(delivery, {"X-Again": "!"})
        return None

    await bus.respond("pick", pick, queue="pickers")
    assert (await bus.request("pick", b"hi", timeout=5, headers={"X-First": "?"})).payload == b"hi!"


async def test_a_request_to_nobody_fails_at_once(bus: Bus) -> None:
    with pytest.raises(NodeUnavailable):
        await bus.request("nobody", b"", timeout=5)


async def test_a_request_without_an_answer_ends_at_its_deadline(bus: Bus) -> None:
    async def silent(_: Delivery) -> None:
        return None

    await bus.respond("silent", silent)
    with pytest.raises(DeadlineExceeded):
        await bus.request("silent", b"", timeout=0.05)


async def test_an_error_of_the_responder_is_answered_with_service_error_headers(bus: Bus) -> None:
    async def refuse(delivery: Delivery) -> Reply:
        if delivery.payload == b"bug":
            raise KeyError("internal detail")
        raise InvalidArguments("no\nsuch 'ünit'", {"where": "/unit"})

    await bus.respond("refuse", refuse)
    refused = await bus.request("refuse", b"", timeout=5)
    assert refused.headers[Header.ERROR_CODE] == "422"
    assert refused.headers[Header.ERROR] == "no such '?nit'"
    assert decode(refused.payload, ErrorReply) == ErrorReply(
        code="invalid_arguments", message="no\nsuch 'ünit'", details={"where": "/unit"}
    )
    bug = await bus.request("refuse", b"bug", timeout=5)
    assert bug.headers[Header.ERROR_CODE] == "500"
    assert b"internal detail" not in bug.payload


async def test_a_responder_at_its_limit_refuses_at_once(bus: Bus) -> None:
    gate, entered = asyncio.Event(), asyncio.Event()

    async def slow(_: Delivery) -> Reply:
        entered.set()
        await gate.wait()
        return Reply(b"done")

    await bus.respond("slow", slow, limit=1)
    first = asyncio.create_task(bus.request("slow", b"", timeout=10))
    await asyncio.wait_for(entered.wait(), 5)
    refused = await bus.request("slow", b"", timeout=5)
    assert decode(refused.payload, ErrorReply).code == "overloaded"
    gate.set()
    assert (await first).payload == b"done"


async def test_a_message_over_the_limit_is_refused_and_the_connection_lives_on(bus: Bus) -> None:
    inbox = Inbox()
    await bus.subscribe("a", inbox)
    with pytest.raises(PayloadTooLarge) as refused:
        await bus.publish("a", b"x" * bus.max_payload, {"X-Header": "one more"})
    assert refused.value.details["limit"] == bus.max_payload
    await bus.publish("a", b"fits")
    assert await inbox.take() == [b"fits"]


async def test_an_answer_over_the_limit_becomes_an_error(bus: Bus) -> None:
    async def large(_: Delivery) -> Reply:
        return Reply(b"x" * (bus.max_payload + 1))

    await bus.respond("large", large)
    answer = await bus.request("large", b"", timeout=5)
    assert decode(answer.payload, ErrorReply).code == "payload_too_large"


async def test_closing_a_subscription_waits_for_what_it_took(connect: Connect) -> None:
    server, caller = await connect(), await connect()
    gate, entered = asyncio.Event(), asyncio.Event()

    async def slow(_: Delivery) -> Reply:
        entered.set()
        await gate.wait()
        return Reply(b"done")

    subscription = await server.respond("slow", slow)
    await server.flush()
    call = asyncio.create_task(caller.request("slow", b"", timeout=10))
    await asyncio.wait_for(entered.wait(), 5)
    closing = asyncio.create_task(subscription.close())
    gate.set()
    assert (await call).payload == b"done"
    await closing
    with pytest.raises(NodeUnavailable):
        await caller.request("slow", b"", timeout=5)


async def test_a_follower_replays_the_last_of_each_subject_and_then_goes_on_live(connect: Connect) -> None:
    writer, reader = await connect(), await connect()
    await writer.ensure_stream(LETTERS)
    await writer.store(LETTERS.template.of("acme", "a"), b"old")
    await writer.store(LETTERS.template.of("acme", "b"), b"b")
    await writer.store(LETTERS.template.of("acme", "a"), b"new")
    inbox = Inbox()
    follower = await reader.follow(LETTERS, inbox)
    await follower.caught_up(10)
    assert await inbox.take(2) == [b"b", b"new"]
    await writer.store(LETTERS.template.of("other", "c"), b"live")
    assert await inbox.take() == [b"live"]


async def test_a_follower_may_narrow_the_subject_or_start_near_the_end(bus: Bus) -> None:
    await bus.ensure_stream(LETTERS)
    for node in ("acme", "other"):
        await bus.store(LETTERS.template.of(node, "a"), node.encode())
    narrowed = Inbox()
    await bus.follow(LETTERS, narrowed, subject=LETTERS.template.every("other"))
    assert await narrowed.take() == [b"other"]
    await bus.ensure_stream(DIARY)
    for day in range(10):
        await bus.publish(DIARY.template.of("acme"), str(day).encode())
    await eventually(lambda: _last_is(bus, b"9"))
    recent = Inbox()
    await bus.follow(DIARY, recent, tail=3)
    assert await recent.take(3) == [b"7", b"8", b"9"]


async def _last_is(bus: Bus, payload: bytes) -> bool:
    last = await bus.last(DIARY, DIARY.template.of("acme"))
    return last is not None and last.payload == payload


async def test_a_follower_waits_for_a_stream_that_is_not_there_yet(bus: Bus) -> None:
    inbox = Inbox()
    follower = await bus.follow(LETTERS, inbox)
    with pytest.raises(DeadlineExceeded):
        await follower.caught_up(0.05)
    await bus.ensure_stream(LETTERS)
    await bus.store(LETTERS.template.of("acme", "a"), b"first")
    assert await inbox.take() == [b"first"]
    await follower.caught_up(10)


async def test_a_follower_goes_on_after_its_handler_raised(bus: Bus) -> None:
    await bus.ensure_stream(LETTERS)
    inbox = Inbox()

    async def fragile(stored: Stored) -> None:
        if stored.payload == b"bad":
            raise ValueError(stored.payload)
        await inbox(stored)

    await bus.follow(LETTERS, fragile)
    for tool in ("bad", "good"):
        await bus.store(LETTERS.template.of("acme", tool), tool.encode())
    assert await inbox.take() == [b"good"]


async def test_storing_into_no_stream_says_so(bus: Bus) -> None:
    with pytest.raises(BusUnavailable):
        await bus.store(LETTERS.template.of("acme", "a"), b"")
    with pytest.raises(BusUnavailable):
        await bus.last(LETTERS, LETTERS.template.of("acme", "a"))


async def test_of_two_writers_that_expect_the_same_last_message_one_wins(bus: Bus) -> None:
    await bus.ensure_stream(LETTERS)
    subject = LETTERS.template.of("acme", "a")
    assert await bus.last(LETTERS, subject) is None
    first = await bus.store(subject, b"1", expect=0)
    with pytest.raises(Conflict):
        await bus.store(subject, b"2", expect=0)
    await bus.store(subject, b"3", expect=first)
    last = await bus.last(LETTERS, subject)
    assert last is not None
    assert last.payload == b"3"


async def test_workers_of_one_name_share_a_stream_and_a_failed_batch_comes_again(connect: Connect) -> None:
    bus = await connect()
    await bus.ensure_stream(DIARY)
    seen = Inbox()
    failed = False

    async def work(batch: list[Stored]) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise RuntimeError("the first batch fails")
        for stored in batch:
            await seen(stored)

    for _ in range(2):
        worker = await connect()
        await worker.consume(DIARY, "workers", work)
    for day in range(20):
        await bus.publish(DIARY.template.of("acme"), str(day).encode())
    assert sorted(await seen.take(20), key=int) == [str(day).encode() for day in range(20)]


async def test_a_new_worker_goes_on_where_the_last_one_stopped(connect: Connect) -> None:
    bus = await connect()
    await bus.ensure_stream(DIARY)
    await bus.publish(DIARY.template.of("acme"), b"1")
    inbox = Inbox()

    async def work(batch: list[Stored]) -> None:
        for stored in batch:
            await inbox(stored)

    first = await bus.consume(DIARY, "workers", work)
    assert await inbox.take() == [b"1"]
    await first.close()
    await bus.publish(DIARY.template.of("acme"), b"2")
    await (await connect()).consume(DIARY, "workers", work)
    assert await inbox.take() == [b"2"]
