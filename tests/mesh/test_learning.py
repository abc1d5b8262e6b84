"""The engine beside whole processes: it finds what was just published, and leaves a tool that fails.

What is published of executions is searched for everything that was marked, on all traffic of the mesh.
"""

import asyncio
import re
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import nats
import pytest
from nats.aio.msg import Msg

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Stored
from mcp_federation.client import FederationClient
from mcp_federation.contract.subjects import METRICS_STREAM, PERFORMANCE_STREAM, ROOT
from mcp_federation.engine.federated import FederatedRAGMCPEngine
from mcp_federation.errors import ToolFailed
from tests.support.fickle import BROKEN, SECONDS
from tests.support.nats_server import NatsServer, temporary_folder
from tests.support.plain_servers import __file__ as plain_server
from tests.support.processes import PATIENCE, Processes, published
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

T = TypeVar("T")
TASK = "translate a text from one language into another"
FAST, SLOW = "translate@acme", "translate@globex"


class Mesh:
    """Two providers of one tool, the one of acme faster; a growing server; metrics; an edge at initech.

    All share as is the default, statistics with noise, but for initech's node, which shares records.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.broken = processes.folder / "broken"
        processes.governance()
        processes.service("metrics", "metrics")
        servers = {"plain": {"command": sys.executable, "args": [str(Path(plain_server)), "good"]}}
        processes.node("initech", servers=servers, toolbox=False, sharing="records")
        self._translator("acme", self.broken, "0")
        self._translator("globex", processes.folder / "never", "0.4")
        self.edge = processes.edge("initech")

    def _translator(self, node: str, broken: Path, seconds: str) -> None:
        argv = [sys.executable, "-m", "mcp_federation.cli", "node", "--name", node]
        argv += ["--toolbox", "tests.support.fickle:server"]
        self.processes.start(node, argv, **{BROKEN: str(broken), SECONDS: seconds})

    def engine(self) -> FederatedRAGMCPEngine:
        return FederatedRAGMCPEngine(
            enable_llm_validation=False,
            nodes=[self.processes.nats.url],
            trusted_keys=[str(self.processes.key_file)],
        )


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    folder = temporary_folder()
    with Processes(folder, NatsServer(folder)) as processes:
        yield Mesh(processes)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def client(mesh: Mesh) -> AsyncIterator[FederationClient]:
    mesh.broken.unlink(missing_ok=True)
    async with mesh.processes.client() as client:
        await published(client, FAST, SLOW, "plain.grow@initech")
        yield client


async def first(engine: FederatedRAGMCPEngine, task: str = TASK) -> str:
    """The name of what is recommended."""
    found = await engine.recommend(task, "latency")
    return str(found[0]["name"]) if found else ""


async def is_ready(edge: httpx2.AsyncClient) -> bool:
    with suppress(httpx2.TransportError):
        return (await edge.get("/readyz")).status_code == 200
    return False


async def few_at_once(make: Callable[[], Awaitable[T]], times: int) -> list[T]:
    """What so many of these give; so few at a time that they are not slow for being many."""
    free = asyncio.Semaphore(3)

    async def one() -> T:
        async with free:
            return await make()

    return await asyncio.gather(*(one() for _ in range(times)))


async def call(engine: FederatedRAGMCPEngine, name: str, times: int) -> None:
    async def once() -> None:
        with suppress(ToolFailed):
            await engine.execute(name, text="a word")

    await few_at_once(once, times)


async def test_a_tool_that_is_published_is_recommended_by_another_organisation_within_a_second(
    mesh: Mesh, client: FederationClient
) -> None:
    async with mesh.engine() as engine:
        task = "calculate the orbit"
        assert await first(engine, task) != "plain.orbit_calculator@initech"
        await client.execute("plain.grow@initech", {"name": "orbit_calculator"})
        await published(client, "plain.orbit_calculator@initech")

        async def is_recommended() -> bool:
            return await first(engine, task) == "plain.orbit_calculator@initech"

        await eventually(is_recommended, timeout=1.0)


async def test_a_tool_that_starts_failing_loses_its_place_within_twenty_calls_and_regains_it_after_it_heals(
    mesh: Mesh, client: FederationClient
) -> None:
    async with mesh.engine() as engine:

        async def recommends(name: str) -> bool:
            return await first(engine) == name

        for name in (FAST, SLOW):
            await call(engine, name, 30)
        await eventually(lambda: recommends(FAST))
        mesh.broken.touch()
        await call(engine, FAST, 20)
        await eventually(lambda: recommends(SLOW))
        mesh.broken.unlink()

        async def is_back() -> bool:
            await call(engine, FAST, 20)
            return await recommends(FAST)

        await eventually(is_back, PATIENCE)


async def test_an_engine_that_never_called_a_tool_learns_from_others_that_it_fails_and_that_it_healed(
    mesh: Mesh, client: FederationClient
) -> None:
    async with mesh.engine() as engine, httpx2.AsyncClient(base_url=mesh.edge, timeout=PATIENCE) as http:

        async def call_by_edge(name: str, times: int) -> None:
            body = {"mcp_name": name, "args": ["a word"], "kwargs": {}}
            await few_at_once(partial(http.post, "/execute", json=body), times)

        async def recommends(name: str) -> bool:
            return await first(engine) == name

        await eventually(lambda: is_ready(http), PATIENCE)
        for name in (FAST, SLOW):
            await call_by_edge(name, 40)
        await eventually(lambda: recommends(FAST))
        mesh.broken.touch()
        await call_by_edge(FAST, 60)
        await eventually(lambda: recommends(SLOW))
        mesh.broken.unlink()
        await call_by_edge(FAST, 200)
        await eventually(lambda: recommends(FAST))


ARGUMENT, CALLER = "argument-4f1d", "caller-9c2b"
WHO = {"User-Agent": CALLER, "X-Request-Id": CALLER, "X-Forwarded-For": CALLER, "From": CALLER}
NOT_PUBLISHED = ("$", "_INBOX", f"{ROOT}.execute.", f"{ROOT}.cancel.")
"""The broker's own, answers to one caller, and calls on their way to one node."""

DATE = re.compile(rb"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d")
LONG_NUMBER = re.compile(rb"\d{10,19}")


class Traffic:
    """All that is published in the mesh, and what its streams keep, by subject."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    async def take(self, message: Msg) -> None:
        headers = repr(message.headers or {}).encode()
        if not message.subject.startswith(NOT_PUBLISHED):
            self.seen.append((message.subject, message.data + headers))

    async def keep(self, stored: Stored) -> None:
        self.seen.append((stored.subject, stored.payload))

    def of(self, *kinds: str) -> list[bytes]:
        return [data for subject, data in self.seen if subject.split(".")[2] in kinds]


def times_in(data: bytes, since: float) -> list[bytes]:
    """What could be a time of the last minutes, in seconds or finer."""
    found = DATE.findall(data)
    for number in LONG_NUMBER.findall(data):
        if any(since - 60 <= int(number) / 10**digits <= time.time() + 60 for digits in (0, 3, 6, 9)):
            found.append(number)
    return found


FAILING = "plain.fail@initech"


def called(name: str) -> dict[str, Any]:
    return {"mcp_name": name, "args": [], "kwargs": {} if name == FAILING else {"text": ARGUMENT}}


async def test_nothing_published_tells_an_argument_a_result_a_caller_a_host_or_a_time(
    mesh: Mesh, client: FederationClient
) -> None:
    since, traffic = time.time(), Traffic()
    async with await nats.connect(mesh.processes.nats.url) as listening:
        await listening.subscribe(">", cb=traffic.take)
        await listening.flush()
        async with httpx2.AsyncClient(base_url=mesh.edge, timeout=PATIENCE, headers=WHO) as http:
            await eventually(lambda: is_ready(http), PATIENCE)
            for body in (called(FAST), called(SLOW), called("plain.echo@initech")):
                for answer in await few_at_once(partial(http.post, "/execute", json=body), 40):
                    assert ARGUMENT in answer.text
            mesh.broken.touch()
            assert (await http.post("/execute", json=called(FAST))).status_code >= 400
            assert (await http.post("/execute", json=called(FAILING))).status_code >= 400
            uploaded = {"mcp_name": FAST, "success": False, "latency_ms": 7.654321, "error_kind": CALLER}
            assert (await http.post("/metadata", json=[uploaded])).status_code == 204
        async with await NatsBus.connect(mesh.processes.nats.url) as bus:
            for stream in (METRICS_STREAM, PERFORMANCE_STREAM):
                await bus.follow(stream, traffic.keep)
            await eventually(lambda: b'"statistics"' in b"".join(traffic.of("metrics")))
            await eventually(lambda: b'"tool_failed"' in b"".join(traffic.of("performance")))
    reported = traffic.of("metrics", "performance")
    assert any(b'"records"' in data for data in reported)
    marks = [ARGUMENT, CALLER, "127.0.0.1", socket.gethostname(), "7.654321", str(mesh.processes.folder)]
    for subject, data in traffic.seen:
        assert [mark for mark in marks if mark.encode() in data] == [], subject
    for data in reported:
        assert times_in(data, since) == []
