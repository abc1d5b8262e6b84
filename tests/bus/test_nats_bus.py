"""What only NATS has: a server that goes and comes back, inboxes, limits as the server counts."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Delivery, Reply
from mcp_federation.contract.messages import ErrorReply, decode
from mcp_federation.contract.subjects import StreamSpec, Template
from mcp_federation.errors import BusUnavailable, ConnectionLost, DeadlineExceeded, PayloadTooLarge
from tests.support.nats_server import NatsServer, restart
from tests.support.waiting import eventually

pytestmark = pytest.mark.bus

DIARY = StreamSpec("DIARY", Template("diary"))
TODAY = DIARY.template.of("acme")


@pytest.fixture(params=["url"])
async def bus(own_nats_server: NatsServer, request: pytest.FixtureRequest) -> AsyncIterator[NatsBus]:
    async with await NatsBus.connect(getattr(own_nats_server, request.param)) as connected:
        yield connected


@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")  # nats-py gives it to aiohttp
@pytest.mark.parametrize("bus", ["url", "websocket_url"], indirect=True)
async def test_requests_and_subscriptions_work_again_after_the_server_came_back(
    own_nats_server: NatsServer, bus: NatsBus
) -> None:
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def echo(delivery: Delivery) -> Reply:
        return Reply(delivery.payload)

    async def take(delivery: Delivery) -> None:
        events.put_nowait(delivery.payload)

    async with await NatsBus.connect(own_nats_server.url) as caller:
        await bus.respond("echo", echo, queue="workers")
        await bus.subscribe("event.*", take)
        await bus.flush()
        await restart(own_nats_server, bus)
        await eventually(lambda: caller.connected)
        await bus.flush()
        assert (await caller.request("echo", b"again", timeout=5)).payload == b"again"
        await caller.publish("event.a", b"heard")
        assert await asyncio.wait_for(events.get(), 5) == b"heard"


async def test_a_request_while_disconnected_fails_at_once(own_nats_server: NatsServer, bus: NatsBus) -> None:
    own_nats_server.kill()
    await eventually(lambda: not bus.connected)
    async with asyncio.timeout(1):
        for call in (
            bus.request("anybody", b"", timeout=30),
            bus.store(TODAY, b""),
        ):
            with pytest.raises(BusUnavailable):
                await call


async def test_a_request_that_is_under_way_when_the_bus_closes_ends_with_it(bus: NatsBus) -> None:
    arrived = asyncio.Event()

    async def silent(_: Delivery) -> None:
        arrived.set()

    await bus.respond("silent", silent)
    call = asyncio.create_task(bus.request("silent", b"", timeout=30))
    await asyncio.wait_for(arrived.wait(), 5)
    await bus.close()
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(call, 5)


async def test_a_request_that_is_under_way_when_the_server_dies_ends_at_once_and_may_have_run(
    own_nats_server: NatsServer,
) -> None:
    arrived = asyncio.Event()

    async def silent(_: Delivery) -> None:
        arrived.set()

    async with await NatsBus.connect(own_nats_server.url) as bus:
        await bus.respond("silent", silent)
        call = asyncio.create_task(bus.request("silent", b"", timeout=30))
        await asyncio.wait_for(arrived.wait(), 5)
        own_nats_server.kill()
        with pytest.raises(ConnectionLost) as lost:
            await asyncio.wait_for(call, 5)
    assert lost.value.ran is None


@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")  # nats-py gives it to aiohttp
@pytest.mark.parametrize("bus", ["url", "websocket_url"], indirect=True)
async def test_a_bus_whose_server_is_gone_closes_with_what_it_could_not_send(
    own_nats_server: NatsServer, bus: NatsBus
) -> None:
    own_nats_server.kill()
    await eventually(lambda: not bus.connected)
    await bus.publish("a", b"")
    async with asyncio.timeout(5):
        await bus.close()


async def test_a_bus_that_is_closed_refuses_everything(own_nats_server: NatsServer) -> None:
    bus = await NatsBus.connect(own_nats_server.url)
    await bus.close()
    await bus.close()
    assert not bus.connected

    async def nothing(_: Delivery) -> None: ...

    for call in (
        bus.publish("a", b""),
        bus.request("a", b"", timeout=1),
        bus.subscribe("a", nothing),
        bus.ensure_stream(DIARY),
        bus.store(TODAY, b""),
        bus.last(DIARY, TODAY),
        bus.flush(),
    ):
        with pytest.raises(BusUnavailable):
            await call


async def test_headers_count_for_the_limit_as_the_server_counts_them(bus: NatsBus) -> None:
    heard: asyncio.Queue[Delivery] = asyncio.Queue()

    async def take(delivery: Delivery) -> None:
        heard.put_nowait(delivery)

    await bus.subscribe("a", take)
    value = "ü" * 1000
    room = bus.max_payload - len(f"NATS/1.0\r\nX-Kind: {value}\r\n\r\n".encode())
    with pytest.raises(PayloadTooLarge):
        await bus.publish("a", b"x" * (room + 1), {"X-Kind": value})
    assert bus.connected
    await bus.publish("a", b"x" * room, {"X-Kind": value})
    delivery = await asyncio.wait_for(heard.get(), 5)
    assert delivery.headers["X-Kind"] == value


async def test_answers_come_to_an_inbox_that_no_other_connection_can_guess(
    own_nats_server: NatsServer, bus: NatsBus
) -> None:
    replies: asyncio.Queue[str] = asyncio.Queue()

    async def note(delivery: Delivery) -> Reply:
        replies.put_nowait(delivery.reply or "")
        return Reply(b"")

    await bus.respond("note", note)
    await bus.flush()
    async with await NatsBus.connect(own_nats_server.url) as other:
        prefixes = set()
        for caller in (bus, other, bus):
            await caller.request("note", b"", timeout=5)
            prefixes.add(replies.get_nowait().partition(".")[0])
    assert len(prefixes) == 2
    assert all(prefix.startswith("_INBOX_") and len(prefix) > 20 for prefix in prefixes)


async def test_an_answer_that_comes_too_late_disturbs_nobody(bus: NatsBus) -> None:
    gate = asyncio.Event()

    async def slow(delivery: Delivery) -> Reply:
        if delivery.payload == b"slow":
            await gate.wait()
        return Reply(delivery.payload)

    await bus.respond("slow", slow)
    with pytest.raises(DeadlineExceeded):
        await bus.request("slow", b"slow", timeout=0.05)
    gate.set()
    assert (await bus.request("slow", b"next", timeout=5)).payload == b"next"


async def test_a_flush_that_was_given_up_leaves_the_connection_as_it_was(
    own_nats_server: NatsServer, bus: NatsBus
) -> None:
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(delivery: Delivery) -> None:
        events.put_nowait(delivery.payload)

    await bus.subscribe("event.*", take)
    with own_nats_server.paused(), pytest.raises(BusUnavailable):
        await bus.flush(0.05)
    await bus.publish("event.a", b"heard")
    assert await asyncio.wait_for(events.get(), 5) == b"heard"


async def test_after_a_flush_others_reach_what_was_subscribed_before_it(
    own_nats_server: NatsServer, bus: NatsBus
) -> None:
    async def echo(delivery: Delivery) -> Reply:
        return Reply(delivery.payload)

    async with await NatsBus.connect(own_nats_server.url) as other:
        for number in range(200):
            await bus.respond(f"echo.{number}", echo)
            await bus.flush()
            await other.request(f"echo.{number}", b"", timeout=5)


async def test_a_full_responder_drops_what_waits_for_no_answer(bus: NatsBus) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow(_: Delivery) -> Reply:
        entered.set()
        await gate.wait()
        return Reply(b"done")

    await bus.respond("slow", slow, limit=1)
    call = asyncio.create_task(bus.request("slow", b"", timeout=10))
    await asyncio.wait_for(entered.wait(), 5)
    await bus.publish("slow", b"nobody waits for this")
    refused = await bus.request("slow", b"", timeout=5)
    assert decode(refused.payload, ErrorReply).code == "overloaded"
    gate.set()
    assert (await call).payload == b"done"
