import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcp_federation.bus.nats import NatsBus
from mcp_federation.contract.subjects import CATALOG, CATALOG_STREAM, RULING_STREAM
from mcp_federation.errors import BusUnavailable
from mcp_federation.mesh.nats_server import MAX_PAYLOAD, NatsServer, nats_token, prepare_nats_server
from mcp_federation.mesh.supervisor import ProcessGroup
from tests.support.waiting import eventually

pytestmark = pytest.mark.mesh

SUBJECT = CATALOG.of("acme", "clock")


@asynccontextmanager
async def running(folder: Path, server: NatsServer) -> AsyncIterator[ProcessGroup]:
    async with ProcessGroup(folder / "logs") as group:
        group.start(server.command)
        yield group


async def test_a_killed_nats_server_is_back_with_all_it_kept_and_clients_come_back(tmp_path: Path) -> None:
    server = prepare_nats_server(tmp_path, None, os.environ)
    async with running(tmp_path, server) as group, await NatsBus.connect(server.url, timeout=20) as bus:
        group.settle()
        await bus.ensure_stream(CATALOG_STREAM)
        await bus.ensure_stream(RULING_STREAM)
        await bus.store(SUBJECT, b"kept")
        loop = asyncio.get_running_loop()
        killed = loop.time()
        os.kill(group.pids["nats"], signal.SIGKILL)
        await eventually(lambda: not bus.connected)
        await eventually(lambda: bus.connected)
        last = await bus.last(CATALOG_STREAM, SUBJECT)
        assert loop.time() - killed < 5
        assert last is not None
        assert last.payload == b"kept"


async def test_the_next_start_has_the_same_port_and_what_was_kept(tmp_path: Path) -> None:
    first = prepare_nats_server(tmp_path, None, os.environ)
    async with running(tmp_path, first), await NatsBus.connect(first.url, timeout=20) as bus:
        await bus.ensure_stream(CATALOG_STREAM)
        await bus.ensure_stream(RULING_STREAM)
        await bus.store(SUBJECT, b"kept")
    second = prepare_nats_server(tmp_path, None, os.environ)
    assert second.url == first.url
    async with running(tmp_path, second), await NatsBus.connect(second.url, timeout=20) as bus:
        last = await bus.last(CATALOG_STREAM, SUBJECT)
        assert last is not None
        assert last.payload == b"kept"
        assert bus.max_payload == MAX_PAYLOAD


async def test_a_port_that_was_taken_meanwhile_is_left_for_another(tmp_path: Path) -> None:
    first = prepare_nats_server(tmp_path, None, os.environ)
    port = int(first.address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        assert prepare_nats_server(tmp_path, None, os.environ).address != first.address


async def test_a_configuration_that_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"port": "no"}', '{"port": 99999}'):
        (tmp_path / "nats-server.conf").write_text(content)
        assert prepare_nats_server(tmp_path, None, os.environ).address.startswith("nats://127.0.0.1:")


async def test_a_token_closes_the_server_to_whoever_does_not_know_it(tmp_path: Path) -> None:
    folder = tmp_path / 'with "quotes" and ünïcode'
    server = prepare_nats_server(folder, "any@text: is/a#token", os.environ)
    config = folder / "nats-server.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "any@text" not in config.read_text()
    assert nats_token("any@text: is/a#token") not in server.address
    async with running(folder, server):
        async with await NatsBus.connect(server.url, timeout=20):
            pass
        with pytest.raises(BusUnavailable, match="refuses our credentials"):
            await NatsBus.connect(server.address, timeout=1)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = prepare_nats_server(tmp_path, None, os.environ)
    config = tmp_path / "nats-server.conf"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"jetstream": {"store_dir": "/dev/null/x"}})
    )
    async with running(tmp_path, server) as group:
        error = await asyncio.wait_for(group.failure(), 20)
    assert error.message.startswith("nats does not start: ")
    assert "storage directory" in error.message


async def test_a_server_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    server = prepare_nats_server(tmp_path, None, os.environ)
    with socket.create_server(("127.0.0.1", int(server.address.rpartition(":")[2]))):
        async with running(tmp_path, server) as group:
            error = await asyncio.wait_for(group.failure(), 20)
    assert "address already in use" in error.message
