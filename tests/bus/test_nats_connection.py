"""How a bus connects to NATS: which servers, by which credentials, and when it is turned out."""

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Delivery, Reply
from mcp_federation.errors import BusUnavailable
from tests.support.nats_server import NatsServer, temporary_folder
from tests.support.waiting import eventually

pytestmark = pytest.mark.bus

PASSWORD = "hunter2hunter2"


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[NatsServer]:
    """A server that asks for a user and a password."""
    folder = temporary_folder()
    with NatsServer(folder, config=f"authorization {{ user: acme, password: {PASSWORD} }}") as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


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
