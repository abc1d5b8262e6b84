"""A NATS server that comes back without what it kept: whoever has a thing puts it there again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
import pytest
from structlog.testing import capture_logs

from mcp_federation.bus import nats_streams
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus, Stored
from mcp_federation.catalog.performance import PerformanceView
from mcp_federation.contract.messages import (
    Performance,
    Record,
    RecordBatch,
    Submission,
    decode,
    encode,
)
from mcp_federation.contract.subjects import (
    AUDIT_STREAM,
    METRICS,
    METRICS_STREAM,
    PERFORMANCE_STREAM,
    SUBMISSION,
    SUBMISSION_STREAM,
    SUBMIT,
    Header,
    StreamSpec,
)
from mcp_federation.edge.metadata_log import MetadataLog
from mcp_federation.errors import BusUnavailable, NodeUnavailable
from mcp_federation.governance.trail_check import TrailCheck
from mcp_federation.metrics.worker import MetricsWorker
from tests.support.nats_server import NatsServer
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on, toolbox
from tests.support.waiting import eventually

pytestmark = pytest.mark.bus


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(nats_streams, "HEARTBEAT", 0.1)
    monkeypatch.setattr(nats_streams, "RETRY_PAUSE", 0.1)
    monkeypatch.setattr(nats_streams, "FETCH_TIMEOUT", 0.5)


@pytest.fixture
async def mesh(own_nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:

        async def connect() -> Bus:
            return await stack.enter_async_context(await NatsBus.connect(own_nats_server.url))

        mesh = await stack.enter_async_context(mesh_on(connect, tmp_path))
        await mesh.node(boxed(toolbox("box", "a", "b")))
        await mesh.has("box.a", "box.b")
        await submit(mesh, "Tells the weather of a place.")
        await mesh.has("weather")
        yield mesh


async def submit(mesh: Mesh, description: str) -> None:
    """Register the tool, as soon as that is possible."""
    payload = encode(Submission(name="weather", description=description, version="1.0.0"))

    async def accepted() -> bool:
        try:
            reply = await mesh.bus.request(SUBMIT.of("acme"), payload, timeout=20)
        except NodeUnavailable:  # it has yet to renew its subscriptions
            return False
        return Header.ERROR_CODE not in reply.headers

    await eventually(accepted)


async def lose_data(server: NatsServer, mesh: Mesh) -> None:
    """Have the server back without anything that it kept, and everybody connected to it."""
    assert mesh.governance is not None
    buses = [mesh.bus, mesh.governance._bus, *(node._bus for node in mesh.nodes)]
    server.kill()
    await eventually(lambda: not any(bus.connected for bus in buses))
    server.forget()
    server.start()
    await eventually(lambda: all(bus.connected for bus in buses))


async def names_read_anew(mesh: Mesh) -> set[str]:
    """The tools that one who comes now finds."""
    replica = await mesh.replica()
    names = {tool.name for tool in replica.state.tools()}
    await replica.stop()
    return names


async def test_the_catalog_is_published_again(own_nats_server: NatsServer, mesh: Mesh) -> None:
    await lose_data(own_nats_server, mesh)

    async def whole() -> bool:
        return await names_read_anew(mesh) == {"box.a", "box.b", "weather"}

    await eventually(whole)
    assert mesh.names() == {"box.a", "box.b", "weather"}
    assert await mesh.call("box.a", text="as before") == "as before"


async def test_those_who_had_read_the_catalog_see_what_changes_afterwards(
    own_nats_server: NatsServer, mesh: Mesh
) -> None:
    # The sequences of the catalog that was lost are far ahead of those of the new one.
    for number in range(9):
        await submit(mesh, f"Tells the weather of a place, {number} days ahead.")
    await lose_data(own_nats_server, mesh)
    await submit(mesh, "Tells the weather of a place and an hour.")
    await mesh.until(
        lambda: (
            (tool := mesh.catalog.state.get("acme", "weather")) is not None
            and tool.tool.description.endswith("an hour.")
        )
    )
    mesh.nodes[0].registrar.remove_server("box")
    await mesh.shows({"weather"})


async def test_what_was_registered_is_kept_again(own_nats_server: NatsServer, mesh: Mesh) -> None:
    await lose_data(own_nats_server, mesh)

    async def kept() -> bool:
        try:
            return await mesh.bus.last(SUBMISSION_STREAM, SUBMISSION.of("acme", "weather")) is not None
        except BusUnavailable:
            return False

    await eventually(kept)


async def test_a_trail_that_was_lost_begins_anew_and_is_whole(
    own_nats_server: NatsServer, mesh: Mesh
) -> None:
    noticed = {"event": "stream_began_anew", "stream": AUDIT_STREAM.name}
    with capture_logs() as logs:
        await lose_data(own_nats_server, mesh)
        await eventually(lambda: any(noticed.items() <= entry.items() for entry in logs))  # by governance
    found: asyncio.Queue[Stored] = asyncio.Queue()
    follower = await mesh.bus.follow(AUDIT_STREAM, found.put)
    await follower.caught_up(10)
    check = TrailCheck([mesh.key])
    for number in range(2):
        await submit(mesh, f"Tells the weather of a place, {number} days ahead.")
        check.add(await asyncio.wait_for(found.get(), 10))
    assert check.faults == []


class Metrics:
    """A metrics worker, what it publishes, and one who reports."""

    def __init__(self, bus: Bus) -> None:
        self.measured: asyncio.Queue[Performance] = asyncio.Queue()
        self._bus = bus

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        worker = MetricsWorker(self._bus)
        await worker.start()
        await self._bus.follow(PERFORMANCE_STREAM, self._take)
        yield
        await worker.stop()

    async def report(self) -> bool:
        """Whether one more execution could be reported."""
        record = Record(node="acme", tool="box.a", success=True, latency_ms=3)
        try:
            await self._bus.store(METRICS.of("acme"), encode(RecordBatch(records=(record,))))
        except BusUnavailable:
            return False
        return True

    async def count(self) -> int:
        """How many are known after that."""
        return (await asyncio.wait_for(self.measured.get(), 10)).count

    async def _take(self, stored: Stored) -> None:
        self.measured.put_nowait(decode(stored.payload, Performance))


async def test_metrics_count_from_zero_and_count_everything(own_nats_server: NatsServer, mesh: Mesh) -> None:
    metrics = Metrics(mesh.bus)
    async with metrics.working():
        for count in (1, 2, 3):
            await metrics.report()
            assert await metrics.count() == count
        await lose_data(own_nats_server, mesh)

        async def ready() -> bool:
            return "box.a" in await names_read_anew(mesh)  # else it is no tool to count for

        await eventually(ready)
        await eventually(metrics.report)
        assert await metrics.count() == 1


@pytest.mark.parametrize("removed", [(METRICS_STREAM, PERFORMANCE_STREAM), (PERFORMANCE_STREAM,)])
async def test_what_was_measured_is_forgotten_where_somebody_removes_it_and_the_next_counts(
    own_nats_server: NatsServer, mesh: Mesh, removed: tuple[StreamSpec, ...]
) -> None:
    metrics, view, log = Metrics(mesh.bus), PerformanceView(mesh.bus), MetadataLog(mesh.bus, "globex")
    async with metrics.working():
        await view.start()
        await log.start()
        await metrics.report()
        assert await metrics.count() == 1
        await eventually(lambda: view.get("acme", "box.a") is not None)
        connection = await nats.connect(own_nats_server.url)
        for stream in removed:
            await connection.jetstream().delete_stream(stream.name)
        await connection.close()
        await eventually(lambda: view.get("acme", "box.a") is None)
        await eventually(lambda: len(list(log.newest())) == (METRICS_STREAM not in removed))
        await eventually(metrics.report)
        assert await metrics.count() == 1
        await log.stop()
        await view.stop()
