"""Fixtures for every test: a clean environment, real servers, and both buses."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.memory_broker import MemoryBroker
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus
from tests.support.nats_server import NatsServer, temporary_folder

Connect = Callable[[], Awaitable[Bus]]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MCP_FEDERATION", "OPENROUTER")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """One nats-server that the tests of a session share; each has subjects of its own, or a fresh stream."""
    folder = temporary_folder()
    with NatsServer(folder) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_nats_server() -> Iterator[NatsServer]:
    """A nats-server of one test's own, to stop and start."""
    folder = temporary_folder()
    with NatsServer(folder) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.bus)])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes connections to one and the same bus: in memory, and to a nats-server of the test's own.

    A test may ask for connections over a WebSocket too, by the parameter "websocket".
    """
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            broker = MemoryBroker()

            async def make() -> Bus:
                return await stack.enter_async_context(MemoryBus(broker))

        else:
            server: NatsServer = request.getfixturevalue("own_nats_server")
            url = server.websocket_url if request.param == "websocket" else server.url

            async def make() -> Bus:
                return await stack.enter_async_context(await NatsBus.connect(url))

        yield make


@pytest.fixture
async def bus(connect: Connect) -> Bus:
    """One connection, on either bus."""
    return await connect()
