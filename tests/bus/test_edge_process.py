"""The edge as a process has it: keys, port, catalog, stop. On a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Tool
from mcp_federation.edge import app as edge_app
from mcp_federation.edge.server import bind
from mcp_federation.errors import Conflict, InvalidRequest
from mcp_federation.listening import bound_socket
from mcp_federation.process import connected
from mcp_federation.settings import Settings
from tests.support.edge_mesh import APPROVER, HOME, TOKEN, BusNode, ensure_streams
from tests.support.nats_server import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.bus


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no stream of records yet."""
    monkeypatch.setattr("mcp_federation.edge.metadata_log.READ_TIMEOUT", 0.1)


def process_settings(server: NatsServer, **fields: Any) -> Settings:
    values = {"node": HOME, "token": TOKEN, "port": 0, "trusted_keys": (str(APPROVER.public),), **fields}
    return Settings(nats_url=server.url, **values)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """The URL of an edge that runs as its process does."""
    stop = asyncio.Event()
    urls: asyncio.Queue[str] = asyncio.Queue()
    process = asyncio.create_task(edge_app.run(settings, stop, on_ready=urls.put_nowait))
    try:
        async with asyncio.timeout(20):
            yield await urls.get()
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await process


async def status_of(url: str) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
        return answer.status


async def test_an_edge_that_starts_first_becomes_ready_when_the_others_come(
    own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_app, "REPLAY_TIMEOUT", 0.1)
    with structlog.testing.capture_logs() as logs:
        async with running(process_settings(own_nats_server)) as url:
            assert await status_of(url + "/healthz") == 200
            assert await status_of(url + "/readyz") == 503
            await eventually(lambda: any(line["event"] == "catalog_awaited" for line in logs))
            async with await NatsBus.connect(own_nats_server.url) as bus:
                await ensure_streams(bus)
                node = BusNode(bus)
                await node.publish(Tool(name="t"))

                async def ready() -> bool:
                    await node.appear()
                    return await status_of(url + "/readyz") == 200

                await eventually(ready)
            assert await status_of(url + "/discover") == 200
    events = [line["event"] for line in logs]
    assert "edge_ready" in events
    assert events[-1] == "edge_stopped"
    assert next(line["url"] for line in logs if line["event"] == "edge_ready") == url


async def test_the_port_is_free_again_after_a_stop(nats_server: NatsServer) -> None:
    settings = process_settings(nats_server)
    async with running(settings) as url:
        port = int(url.rpartition(":")[2])
    async with running(settings.model_copy(update={"port": port})) as again:
        assert again == url


async def test_a_taken_port_ends_the_start_with_one_clear_error(nats_server: NatsServer) -> None:
    with await bind("127.0.0.1", 0) as taken:
        taken.listen()
        settings = process_settings(nats_server, port=taken.getsockname()[1])
        with pytest.raises(Conflict, match="is taken"):
            await edge_app.run(settings, asyncio.Event())


async def test_a_port_that_another_took_while_we_started_is_one_clear_error(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bound_socket("127.0.0.1", 0) as taken:

        @asynccontextmanager
        async def late(*args: Any) -> AsyncIterator[Bus]:
            taken.listen()
            async with connected(*args) as bus:
                yield bus

        monkeypatch.setattr(edge_app, "connected", late)
        settings = process_settings(nats_server, port=taken.getsockname()[1])
        with pytest.raises(Conflict, match="is taken"):
            await edge_app.run(settings, asyncio.Event())


@pytest.mark.parametrize("keys", [(), ("no-such-file",), ("ed25519:short",)])
async def test_without_governance_keys_the_edge_does_not_start(
    nats_server: NatsServer, keys: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequest, match="key"):
        await edge_app.run(process_settings(nats_server, trusted_keys=keys), asyncio.Event())


async def test_governance_keys_may_stand_in_a_file(nats_server: NatsServer, tmp_path: Path) -> None:
    file = tmp_path / "trusted"
    file.write_text(f"# governance\n{APPROVER.public}\n")
    async with running(process_settings(nats_server, trusted_keys=(str(file),))) as url:
        assert await status_of(url + "/healthz") == 200
