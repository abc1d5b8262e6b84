"""What only NATS has: a server that goes and comes back, credentials, and streams that are lost."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import StreamConfig
from structlog.testing import capture_logs

from mcp_federation.bus import nats_streams
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Delivery, Reply, Stored
from mcp_federation.contract.messages import ErrorReply, decode
from mcp_federation.contract.subjects import StreamSpec, Template
from mcp_federation.errors import BusUnavailable, ConnectionLost, DeadlineExceeded, PayloadTooLarge
from tests.support.nats_server import NatsServer, eventually, temporary_folder

pytestmark = pytest.mark.bus

LETTERS = StreamSpec("LETTERS", Template("letter", has_tool=True), last_per_subject=True)
DIARY = StreamSpec("DIARY", Template("diary"))
TODAY = DIARY.template.of("acme")
PASSWORD = "hunter2hunter2"


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


@pytest.fixture(params=["url"])
async def bus(own_nats_server: NatsServer, request: pytest.FixtureRequest) -> AsyncIterator[NatsBus]:
    async with await NatsBus.connect(getattr(own_nats_server, request.param)) as connected:
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


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[NatsServer]:
    """A server that asks for a user and a password."""
    folder = temporary_folder()
    with NatsServer(folder, config=f"authorization {{ user: acme, password: {PASSWORD} }}") as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


async def restart(server: NatsServer, bus: NatsBus) -> None:
    server.kill()
    await eventually(lambda: not bus.connected)
    server.start()
    await eventually(lambda: bus.connected)


async def write(bus: NatsBus, *pages: bytes) -> None:
    for page in pages:
        await bus.store(TODAY, page)


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


async def test_nothing_answers_where_no_server_is(own_nats_server: NatsServer) -> None:
    own_nats_server.stop()
    url = f"nats://acme:{PASSWORD}@127.0.0.1:{own_nats_server.port}"
    async with asyncio.timeout(3):
        with pytest.raises(BusUnavailable, match="no NATS server answers") as refused:
            await NatsBus.connect(url, timeout=1)
    assert PASSWORD not in str(refused.value)
    assert str(own_nats_server.port) in refused.value.message


@pytest.mark.parametrize("user", ["", "acme:wrongwrong@", f"other:{PASSWORD}@", f"{PASSWORD}@"])
async def test_wrong_credentials_are_refused_quickly_and_never_shown(
    guarded_server: NatsServer, user: str
) -> None:
    url = f"nats://{user}127.0.0.1:{guarded_server.port}"
    async with asyncio.timeout(2):
        with pytest.raises(BusUnavailable, match="refuses our credentials") as refused:
            await NatsBus.connect(url)
    assert refused.value.message.endswith(f"nats://127.0.0.1:{guarded_server.port}")


async def test_the_right_credentials_in_the_url_are_let_in(guarded_server: NatsServer) -> None:
    url = f"nats://acme:{PASSWORD}@127.0.0.1:{guarded_server.port}"
    async with await NatsBus.connect(url, name="a test") as bus:
        await bus.flush()
        assert bus.connected


async def test_a_certificate_must_be_trusted_and_is_told_when_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed(tmp_path)
    config = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    with NatsServer(tmp_path / "server", config=config) as server:
        url = f"tls://localhost:{server.port}"
        async with asyncio.timeout(4):
            with pytest.raises(BusUnavailable, match=r"certificate is not trusted \(.+\) at tls://localhost"):
                await NatsBus.connect(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with await NatsBus.connect(url) as bus:
            await bus.flush()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Files with a certificate of localhost, and with its key."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, None)
    )
    paths = folder / "server.pem", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


async def test_who_is_turned_out_of_a_connection_asks_to_be_let_in_again(
    own_nats_server: NatsServer,
) -> None:
    lost = asyncio.Event()
    async with await NatsBus.connect(own_nats_server.url, on_lost=lost.set) as bus:
        before = bus._nc.stats["reconnects"]
        await bus._nc._process_err("'authorization violation'")  # as the parser hands it over
        await eventually(lambda: bus.connected and bus._nc.stats["reconnects"] > before)
        await bus.flush()
    assert not lost.is_set()


async def test_a_server_that_no_longer_lets_us_in_is_tried_until_it_does_again() -> None:
    def user(password: str) -> str:
        return f"authorization {{ user: acme, password: {password} }}"

    folder = temporary_folder()
    lost = asyncio.Event()
    with NatsServer(folder, config=user(PASSWORD)) as server, capture_logs() as logs:
        url = f"nats://acme:{PASSWORD}@127.0.0.1:{server.port}"
        async with await NatsBus.connect(url, on_lost=lost.set) as bus:

            async def answer(_: Delivery) -> Reply:
                return Reply(b"here")

            def refusals() -> int:
                return sum(entry["event"] == "nats_refuses_us" for entry in logs)

            await bus.respond("greeting", answer)
            server.reload(user("another-password"))
            await eventually(refusals)
            await eventually(lambda: (folder / "nats.log").read_text().count("authentication error") >= 4)
            server.reload(user(PASSWORD))
            await eventually(lambda: bus.connected)
            assert (await bus.request("greeting", b"", timeout=2)).payload == b"here"
            assert refusals() == 1
    assert not lost.is_set()
    shutil.rmtree(folder, ignore_errors=True)


async def test_the_next_server_is_tried_where_the_first_does_not_answer(own_nats_server: NatsServer) -> None:
    async with await NatsBus.connect(f"nats://127.0.0.1:1,{own_nats_server.url}") as bus:
        assert bus.connected


@pytest.mark.parametrize("url", ["nats://", "nats://host:notaport", "://", "", "http://127.0.0.1:1"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BusUnavailable):
        await NatsBus.connect(url, timeout=1)


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
