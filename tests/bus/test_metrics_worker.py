"""Metrics workers on a real bus: what they publish is the sum of what was recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import msgspec
import nats
import pytest
from structlog.testing import capture_logs

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus, Stored
from mcp_federation.contract.messages import (
    Performance,
    Record,
    RecordBatch,
    Statistics,
    StatisticsBatch,
    Tally,
    Withdrawal,
    decode,
    encode,
)
from mcp_federation.contract.subjects import (
    CATALOG,
    CATALOG_STREAM,
    METRICS,
    METRICS_STREAM,
    PERFORMANCE,
    PERFORMANCE_STREAM,
    StreamSpec,
)
from mcp_federation.errors import BusUnavailable, Conflict
from mcp_federation.metrics.aggregate import MAX_COUNT
from mcp_federation.metrics.worker import ATTEMPTS, MetricsWorker
from mcp_federation.privacy.publisher import RecordPublisher
from mcp_federation.privacy.sharing import SharingPolicy
from tests.conftest import Connect
from tests.support.nats_server import NatsServer

TOOLS = ("add", "files.read", "größe €")


class Published:
    """The newest performance of each tool, as a reader of the stream sees it."""

    def __init__(self) -> None:
        self.of: dict[str, Performance] = {}
        self.payloads: list[bytes] = []
        self._changed = asyncio.Condition()

    async def __call__(self, stored: Stored) -> None:
        async with self._changed:
            _, tool = PERFORMANCE.parse(stored.subject)
            self.of[tool] = decode(stored.payload, Performance)
            self.payloads.append(stored.payload)
            self._changed.notify_all()

    def count(self) -> int:
        return sum(performance.count for performance in self.of.values())

    async def until_count(self, number: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.count() >= number)


Watch = Callable[[], Awaitable[Published]]


@pytest.fixture
def watch(connect: Connect) -> Watch:
    async def start() -> Published:
        await know_tools(await connect())
        published = Published()
        await (await connect()).follow(PERFORMANCE_STREAM, published)
        return published

    return start


def a_record(number: int = 0, *, success: bool = True) -> Record:
    kind = None if success else "tool_failed"
    tool = TOOLS[number % len(TOOLS)]
    return Record(node="acme", tool=tool, success=success, latency_ms=5.0, cost=0.25, error_kind=kind)


async def know_tools(bus: Bus, *tools: str) -> None:
    """Let the catalog have had the tools."""
    await bus.ensure_stream(CATALOG_STREAM)
    for tool in tools or TOOLS:
        await bus.store(CATALOG.of("acme", tool), encode(Withdrawal(node="acme", name=tool)))


async def report(bus: Bus, *records: Record, reporter: str = "globex") -> None:
    await bus.store(METRICS.of(reporter), encode(RecordBatch(records=records)))


async def test_what_is_published_is_what_happened(connect: Connect, watch: Watch) -> None:
    bus, published = await connect(), await watch()
    worker = MetricsWorker(bus)
    await worker.start()
    await report(bus, a_record(), a_record(success=False), reporter="acme")
    await report(bus, a_record())
    await published.until_count(3)
    await worker.stop()
    performance = published.of["add"]
    assert (performance.node, performance.successes, performance.errors) == ("acme", 2, {"tool_failed": 1})
    assert (performance.latency_p50, performance.latency_p99, performance.cost_total) == (5, 5, 0.75)


async def test_workers_that_share_a_stream_end_with_exactly_the_sum(connect: Connect, watch: Watch) -> None:
    published, reporter = await watch(), await connect()
    workers = [MetricsWorker(await connect()) for _ in range(3)]
    for worker in workers:
        await worker.start()
    batches, size = 200, 12
    for _ in range(batches):
        await report(reporter, *(a_record(number, success=number > 2) for number in range(size)))
    await published.until_count(batches * size)
    for worker in workers:
        await worker.stop()
    for tool in TOOLS:
        stored = await reporter.last(PERFORMANCE_STREAM, PERFORMANCE.of("acme", tool))
        assert stored is not None
        performance = decode(stored.payload, Performance)
        assert performance.count == batches * size / len(TOOLS)
        assert performance.errors == {"tool_failed": batches}
        assert performance.cost_total == 0.25 * performance.count


async def test_a_worker_that_starts_goes_on_from_what_was_published(connect: Connect, watch: Watch) -> None:
    published, bus = await watch(), await connect()
    for round_number in (1, 2, 3):
        worker = MetricsWorker(await connect())
        await worker.start()
        await report(bus, a_record(), a_record())
        await published.until_count(2 * round_number)
        await worker.stop()
    assert published.count() == 6


async def test_what_was_recorded_while_no_worker_ran_is_not_lost(connect: Connect, watch: Watch) -> None:
    published, bus = await watch(), await connect()
    await bus.ensure_stream(METRICS_STREAM)
    await report(bus, a_record())
    worker = MetricsWorker(bus)
    await worker.start()
    await published.until_count(1)
    await worker.stop()


async def test_a_tool_that_fell_out_of_the_cache_is_read_again(connect: Connect, watch: Watch) -> None:
    published, bus = await watch(), await connect()
    worker = MetricsWorker(bus, cache_size=1)
    await worker.start()
    for round_number in range(1, 4):
        await report(bus, *(a_record(number) for number in range(3)))
        await published.until_count(3 * round_number)
    await worker.stop()
    assert {tool: performance.count for tool, performance in published.of.items()} == dict.fromkeys(TOOLS, 3)


async def test_messages_that_are_none_are_counted_and_not_tried_again(connect: Connect, watch: Watch) -> None:
    published, bus = await watch(), await connect()
    worker = MetricsWorker(bus)
    with capture_logs() as logs:
        await worker.start()
        await bus.store(METRICS.of("globex"), b"\xff not json")
        await bus.store(METRICS.of("globex"), b'{"type":"records","records":[{"node":"acme"}]}')
        too_long = Record(node="acme", tool="é" * 200, success=True, latency_ms=1)
        await report(bus, too_long, a_record())
        await published.until_count(1)
        await report(bus, a_record())
        await published.until_count(2)
        await worker.stop()
    assert worker.malformed == 3
    warned = [log["event"] for log in logs if log["log_level"] == "warning"]
    assert warned == ["batch_malformed", "batch_malformed", "report_malformed"]


@pytest.mark.parametrize("reporter", ["UPPER", "_x", "é", "a" * 200, "-", "a.b"])
async def test_a_reporter_whose_name_is_no_nodes_is_refused_and_the_tools_history_stays(
    connect: Connect, reporter: str
) -> None:
    bus = await connect()
    await know_tools(bus)
    await bus.ensure_stream(PERFORMANCE_STREAM)
    worker = MetricsWorker(bus)
    await worker.handle([stored_batch(1), stored_batch(2, reporter), stored_batch(3)])
    assert worker.malformed == 1
    assert (await published_performance(bus)).recent.keys() == {"acme"}
    await MetricsWorker(bus).handle([stored_batch(4)])
    assert (await published_performance(bus)).count == 3


async def test_what_readers_would_refuse_is_not_published_in_the_place_of_what_they_have(
    connect: Connect,
) -> None:
    bus = await connect()
    await know_tools(bus)
    await bus.ensure_stream(PERFORMANCE_STREAM)
    full = Performance(node="acme", tool="add", count=MAX_COUNT, successes=MAX_COUNT)
    await bus.store(PERFORMANCE.of("acme", "add"), encode(full))
    worker = MetricsWorker(bus)
    await worker.handle([stored_batch()])
    assert worker.malformed == 1
    assert await published_performance(bus) == full


@pytest.mark.parametrize(
    ("hostile", "kept"),
    [
        (b"no json", 0),
        (b'{"type":"performance","node":"acme","tool":"add","count":1,"successes":99}', 0),
        (
            b'{"type":"performance","node":"acme","tool":"add","count":9,"successes":9,"latency_sketch":"/////w=="}',
            9,
        ),
    ],
)
async def test_a_hostile_performance_is_counted_and_replaced(
    connect: Connect, hostile: bytes, kept: int
) -> None:
    bus = await connect()
    await bus.ensure_stream(METRICS_STREAM)
    await bus.ensure_stream(PERFORMANCE_STREAM)
    subject = PERFORMANCE.of("acme", "add")
    await bus.store(subject, hostile)
    worker = MetricsWorker(bus)
    await worker.handle([stored_batch()])
    performance = await published_performance(bus)
    assert (performance.count, performance.latency_p50) == (kept + 1, 5)
    assert worker.malformed == 1


def stored_batch(sequence: int = 1, reporter: str = "acme") -> Stored:
    return Stored(METRICS.of(reporter), encode(RecordBatch(records=(a_record(),))), sequence)


async def published_performance(bus: Bus, tool: str = "add") -> Performance:
    stored = await bus.last(PERFORMANCE_STREAM, PERFORMANCE.of("acme", tool))
    assert stored is not None
    return decode(stored.payload, Performance)


async def test_another_workers_performance_is_merged_and_not_overwritten(connect: Connect) -> None:
    bus = await connect()
    await know_tools(bus)
    await bus.ensure_stream(PERFORMANCE_STREAM)
    one, other = MetricsWorker(bus), MetricsWorker(await connect())
    for sequence, worker in enumerate((one, other, one, one, other), start=1):
        await worker.handle([stored_batch(sequence)])
    assert (await published_performance(bus)).count == 5


async def test_a_batch_that_comes_again_after_its_worker_died_counts_once(connect: Connect) -> None:
    bus = await connect()
    await know_tools(bus)
    await bus.ensure_stream(PERFORMANCE_STREAM)
    dying = MetricsWorker(bus)
    await dying.handle([stored_batch(1), stored_batch(2)])
    for successor in (dying, MetricsWorker(await connect())):
        await successor.handle([stored_batch(2), stored_batch(3), stored_batch(1)])
    performance = await published_performance(bus)
    assert performance.count == 3
    assert performance.recent["acme"].count == pytest.approx(3, rel=0.05)


async def test_a_batch_of_which_one_tool_failed_counts_once_for_the_others(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await connect()
    await know_tools(bus)
    await bus.ensure_stream(PERFORMANCE_STREAM)
    worker, store = MetricsWorker(bus), bus.store
    batch = Stored(METRICS.of("acme"), encode(RecordBatch(records=(a_record(0), a_record(1)))), 1)

    async def store_one_only(subject: str, payload: bytes, *, expect: int | None = None) -> int:
        if subject == PERFORMANCE.of("acme", TOOLS[1]):
            raise BusUnavailable("not now")
        return await store(subject, payload, expect=expect)

    monkeypatch.setattr(bus, "store", store_one_only)
    with pytest.raises(BusUnavailable):
        await worker.handle([batch])
    monkeypatch.setattr(bus, "store", store)
    await worker.handle([batch])
    assert [(await published_performance(bus, tool)).count for tool in TOOLS[:2]] == [1, 1]


async def test_nobody_makes_up_tools_that_no_node_ever_published(connect: Connect, watch: Watch) -> None:
    published, bus = await watch(), await connect()
    worker = MetricsWorker(bus)
    await worker.start()
    made_up = Record(node="acme", tool="made_up", success=True, latency_ms=1)
    await report(bus, made_up, a_record())
    await published.until_count(1)
    await worker.stop()
    assert set(published.of) == {"add"}
    assert worker.malformed == 1


async def test_statistics_count_beside_records(connect: Connect, watch: Watch) -> None:
    published, bus = await watch(), await connect()
    worker = MetricsWorker(bus)
    await worker.start()
    released = Statistics(node="acme", tool="add", tally=Tally(count=20, successes=15.4))
    await bus.store(METRICS.of("initech"), encode(StatisticsBatch(statistics=(released,))))
    await report(bus, a_record())
    await published.until_count(21)
    await worker.stop()
    performance = published.of["add"]
    assert (performance.successes, performance.observed, performance.errors) == (16, 21, {"other": 5})
    assert performance.recent.keys() == {"globex", "initech"}


async def test_a_worker_that_others_always_beat_gives_its_batch_back(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, rival = await connect(), await connect()
    await know_tools(bus)
    await bus.ensure_stream(PERFORMANCE_STREAM)
    last, beaten = bus.last, 0

    async def last_but_outdated(stream: StreamSpec, subject: str) -> Stored | None:
        nonlocal beaten
        stored = await last(stream, subject)
        if stream == CATALOG_STREAM:
            return stored
        beaten += 1
        await rival.store(subject, encode(Performance(node="acme", tool="add", count=0, successes=0)))
        return stored

    monkeypatch.setattr(bus, "last", last_but_outdated)
    with pytest.raises(Conflict):
        await MetricsWorker(bus).handle([stored_batch()])
    assert beaten == ATTEMPTS


async def test_stopping_does_not_wait_for_ever_for_the_batch_at_hand(
    connect: Connect, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, bus, reporter = await watch(), await connect(), await connect()
    storing, go_on = asyncio.Event(), asyncio.Event()
    store = bus.store

    async def slow_store(subject: str, payload: bytes, *, expect: int | None = None) -> int:
        storing.set()
        await go_on.wait()
        return await store(subject, payload, expect=expect)

    monkeypatch.setattr(bus, "store", slow_store)
    worker = MetricsWorker(bus)
    await worker.start()
    await report(reporter, a_record())
    await asyncio.wait_for(storing.wait(), 10)
    with capture_logs() as logs:
        await worker.stop(deadline=0.01)
    assert "metrics_stop_late" in [log["event"] for log in logs]
    go_on.set()
    await published.until_count(1)


async def test_stopping_a_worker_that_never_started_is_fine(connect: Connect) -> None:
    await MetricsWorker(await connect()).stop()


async def test_nothing_of_callers_arguments_or_times_is_published(connect: Connect, watch: Watch) -> None:
    bus, published = await connect(), await watch()
    worker = MetricsWorker(bus)
    await worker.start()
    publisher = RecordPublisher(bus, "globex", policy=SharingPolicy(sharing="records"), interval=3600)
    await publisher.start()
    publisher.add(
        Record(
            node="acme",
            tool="add",
            success=False,
            latency_ms=1234.56789,
            cost=0.000123456,
            error_kind="alice asked for /home/alice/taxes.pdf",
        )
    )
    publisher.add(Record(node="acme", tool="add", success=True, latency_ms=98.7654321))
    await publisher.stop()
    await published.until_count(2)
    await worker.stop()
    reported: asyncio.Queue[Stored] = asyncio.Queue()
    await bus.follow(METRICS_STREAM, reported.put)
    batch = msgspec.json.decode((await asyncio.wait_for(reported.get(), 10)).payload)
    assert sorted(batch.pop("records"), key=lambda record: record["success"]) == [
        {
            "node": "acme",
            "tool": "add",
            "success": False,
            "latency_ms": 1230.0,
            "cost": 0.000123,
            "error_kind": "other",
        },
        {"node": "acme", "tool": "add", "success": True, "latency_ms": 98.8, "cost": 0.0},
    ]
    assert batch == {"type": "records"}
    performance = msgspec.json.decode(published.payloads[-1])
    assert performance.pop("latency_sketch")
    assert performance.pop("recent").keys() == {"globex"}
    assert performance.pop("folded_last")
    assert performance.pop("folded")
    assert performance == {
        "type": "performance",
        "node": "acme",
        "tool": "add",
        "count": 2,
        "successes": 1,
        "errors": {"other": 1},
        "latency_p50": 98.8,
        "latency_p90": 98.8,
        "latency_p99": 98.8,
        "cost_total": 0.000123,
        "observed": 2,
    }


@pytest.mark.bus
async def test_the_stream_keeps_metrics_as_long_as_it_is_told_also_where_it_was_there_before(
    own_nats_server: NatsServer,
) -> None:
    async with await NatsBus.connect(own_nats_server.url) as bus:
        await bus.ensure_stream(METRICS_STREAM)
        kept = replace(METRICS_STREAM, max_age=timedelta(days=2))
        worker = MetricsWorker(bus, metrics_stream=kept)
        await worker.start()
        await worker.stop()
    async with await nats.connect(own_nats_server.url) as connection:
        info = await connection.jetstream().stream_info(METRICS_STREAM.name)
    assert info.config.max_age == timedelta(days=2).total_seconds()


@pytest.mark.bus
async def test_records_and_workers_come_through_a_restart_of_the_server(own_nats_server: NatsServer) -> None:
    published = Published()
    async with (
        await NatsBus.connect(own_nats_server.url) as node,
        await NatsBus.connect(own_nats_server.url) as metrics,
    ):
        await know_tools(node)
        worker = MetricsWorker(metrics)
        publisher = RecordPublisher(node, "acme", policy=SharingPolicy(sharing="records"), interval=0.05)
        await worker.start()
        await publisher.start()
        await node.follow(PERFORMANCE_STREAM, published)
        publisher.add(a_record(0))
        await published.until_count(1)
        own_nats_server.kill()
        publisher.add(a_record(1))
        own_nats_server.start()
        publisher.add(a_record(2))
        await published.until_count(3)
        await publisher.stop()
        await worker.stop()
    assert set(published.of) == set(TOOLS)
