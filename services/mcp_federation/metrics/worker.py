"""The metrics worker: records in, performance per tool out. Any number of them share the work."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mcp_federation.bus.protocol import Bus, Stored, Subscription
from mcp_federation.contract.messages import (
    MetricsMessage,
    Performance,
    Record,
    RecordBatch,
    Tally,
    decode,
    decode_metrics,
    encode,
)
from mcp_federation.contract.subjects import (
    CATALOG,
    CATALOG_STREAM,
    METRICS,
    METRICS_CONSUMER,
    METRICS_STREAM,
    PERFORMANCE,
    PERFORMANCE_STREAM,
    StreamSpec,
)
from mcp_federation.errors import Conflict, InvalidRequest
from mcp_federation.logs import get_logger
from mcp_federation.metrics.aggregate import Aggregate

log = get_logger("metrics")

ATTEMPTS = 50
"""How often a worker that others are faster than tries again; one of them succeeds each time."""

IN_FLIGHT = 64
STOP_DEADLINE = 10.0

Key = tuple[str, str]
"""A tool: its node and its local name."""

Known = tuple[Aggregate, int]
"""What is published of a tool, and the sequence of that message (0: none yet)."""


@dataclass(slots=True)
class Report:
    """What one message of the metrics stream says of one tool."""

    reporter: str
    sequence: int
    records: list[Record] = field(default_factory=list)
    statistics: list[Tally] = field(default_factory=list)


class MetricsWorker:
    """Folds the batches of `METRICS_STREAM` into the messages of `PERFORMANCE_STREAM`.

    Each tool's message is replaced only where it is still the one that the worker knows; otherwise it
    reads the newer one and merges anew, so workers never undo each other's work. Nothing is kept but
    in the streams. A message says which batches are in it, so that one which comes again, after its
    worker died or failed half-way, does not count twice. A tool that no node ever published is none.
    """

    def __init__(
        self, bus: Bus, *, metrics_stream: StreamSpec = METRICS_STREAM, cache_size: int = 10_000
    ) -> None:
        self.malformed = 0
        """How many batches, reports, messages and sketches were none."""

        self._bus = bus
        self._metrics_stream = metrics_stream
        self._cache_size = cache_size
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Have the streams, and begin to work.

        Raises:
            BusUnavailable: the bus cannot make the streams.
        """
        for stream in (self._metrics_stream, PERFORMANCE_STREAM, CATALOG_STREAM):
            await self._bus.ensure_stream(stream)
        self._subscription = await self._bus.consume(
            METRICS_STREAM, METRICS_CONSUMER, self.handle, on_anew=self._on_anew
        )
        log.info("metrics_started", message="records are counted")

    async def stop(self, deadline: float = STOP_DEADLINE) -> None:
        """Finish the batch at hand, in at most `deadline` seconds, and stop."""
        if self._subscription is None:
            return
        subscription, self._subscription = self._subscription, None
        try:
            async with asyncio.timeout(deadline):
                await subscription.close()
        except TimeoutError:
            log.warn("metrics_stop_late", message="a batch is not finished")

    async def _on_anew(self) -> None:
        self._known.clear()  # what is folded in is told by the sequences of the stream before

    async def handle(self, batch: list[Stored]) -> None:
        """Fold stored batches in, and publish each tool they are about.

        Raises:
            BusUnavailable, Conflict: not all of them could be published.
        """
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def publish(key: Key, reports: Sequence[Report]) -> None:
            async with slots:
                await self._publish(key, reports)

        by_tool = self._by_tool(batch)
        # All of them run to their end: what others of the batch failed at does not hold them up.
        results = await asyncio.gather(
            *(publish(key, reports) for key, reports in by_tool.items()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        log.debug("metrics_folded", batches=len(batch), tools=len(by_tool))

    def _by_tool(self, batch: list[Stored]) -> dict[Key, list[Report]]:
        by_tool: defaultdict[Key, list[Report]] = defaultdict(list)
        for stored in batch:
            try:
                reporter, _ = METRICS.parse(stored.subject)
                message = decode_metrics(stored.payload)
            except InvalidRequest as error:
                self._count_malformed("batch_malformed", stored.subject, error)
                continue
            reports: dict[Key, Report] = {}
            for key, item in _items(message):
                report = reports.setdefault(key, Report(reporter, stored.sequence))
                if isinstance(item, Record):
                    report.records.append(item)
                else:
                    report.statistics.append(item)
            for key, report in reports.items():
                try:
                    PERFORMANCE.of(*key)
                except InvalidRequest as error:
                    self._count_malformed("report_malformed", stored.subject, error)
                else:
                    by_tool[key].append(report)
        return by_tool

    async def _publish(self, key: Key, reports: Sequence[Report]) -> None:
        subject = PERFORMANCE.of(*key)
        known = self._known.pop(key, None)
        for _ in range(ATTEMPTS):
            aggregate, sequence = known or await self._load(key)
            if not sequence and not await self._was_published(key):
                self._count_malformed("tool_unknown", subject, InvalidRequest("no node ever published it"))
                return
            if _fold(aggregate, reports):
                try:
                    sequence = await self._bus.store(subject, _readable(aggregate), expect=sequence)
                except InvalidRequest as error:
                    self._count_malformed("performance_unreadable", subject, error)
                    return
                except Conflict:
                    known = None
                    continue
            self._remember(key, (aggregate, sequence))
            return
        raise Conflict(f"other workers published {subject} first, {ATTEMPTS} times")

    async def _load(self, key: Key) -> Known:
        subject = PERFORMANCE.of(*key)
        stored = await self._bus.last(PERFORMANCE_STREAM, subject)
        if stored is None:
            return Aggregate(*key), 0
        try:
            message = decode(stored.payload, Performance)
            PERFORMANCE.check(subject, message.node, message.tool)
            aggregate = Aggregate.of(message)
        except InvalidRequest as error:
            self._count_malformed("performance_malformed", subject, error)
            return Aggregate(*key), stored.sequence
        if aggregate.sketch_refused:
            self._count_malformed("sketch_malformed", subject, InvalidRequest("latencies begin anew"))
        return aggregate, stored.sequence

    async def _was_published(self, key: Key) -> bool:
        """Whether the catalog has, or had, the tool: a withdrawal stands in its place."""
        return await self._bus.last(CATALOG_STREAM, CATALOG.of(*key)) is not None

    def _remember(self, key: Key, known: Known) -> None:
        self._known[key] = known
        while len(self._known) > self._cache_size:
            self._known.popitem(last=False)

    def _count_malformed(self, operation: str, subject: str, error: InvalidRequest) -> None:
        self.malformed += 1
        log.warn(operation, subject=subject, reason=error.message)


def _items(message: MetricsMessage) -> Iterator[tuple[Key, Record | Tally]]:
    if isinstance(message, RecordBatch):
        for record in message.records:
            yield (record.node, record.tool), record
    else:
        for released in message.statistics:
            yield (released.node, released.tool), released.tally


def _fold(aggregate: Aggregate, reports: Sequence[Report]) -> bool:
    """Whether any of the reports is new to the aggregate; what is new is in it now."""
    new = [report for report in reports if aggregate.folded.take(report.sequence)]
    for report in new:
        if report.records:
            aggregate.add(report.reporter, report.records)
        for tally in report.statistics:
            aggregate.add_statistics(report.reporter, tally)
    return bool(new)


def _readable(aggregate: Aggregate) -> bytes:
    """The aggregate's message. One that readers refuse would take all that is known of the tool with it.

    Raises:
        InvalidRequest: it is such a one.
    """
    payload = encode(aggregate.performance())
    Aggregate.of(decode(payload, Performance))
    return payload
