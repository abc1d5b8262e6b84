"""The metrics worker: records in, performance per tool out. Any number of them share the work."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Mapping

from mcp_federation.bus.protocol import Bus, Stored, Subscription
from mcp_federation.contract.messages import Performance, RecordBatch, decode, encode
from mcp_federation.contract.subjects import METRICS_CONSUMER, METRICS_STREAM, PERFORMANCE, PERFORMANCE_STREAM
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


class MetricsWorker:
    """Folds the batches of `METRICS_STREAM` into the messages of `PERFORMANCE_STREAM`.

    Each tool's message is replaced only where it is still the one that the worker knows; otherwise it
    reads the newer one and merges anew, so workers never undo each other's work. Nothing is kept but
    in the streams. A batch counts at least once: one that was stored and whose worker died before
    acknowledging it, or which failed half-way, may count twice.
    """

    def __init__(self, bus: Bus, *, cache_size: int = 10_000) -> None:
        self.malformed = 0
        """How many batches, records, messages and sketches were none."""

        self._bus = bus
        self._cache_size = cache_size
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Have both streams, and begin to work.

        Raises:
            BusUnavailable: the bus cannot make the streams.
        """
        await self._bus.ensure_stream(METRICS_STREAM)
        await self._bus.ensure_stream(PERFORMANCE_STREAM)
        self._subscription = await self._bus.consume(METRICS_STREAM, METRICS_CONSUMER, self.handle)

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

    async def handle(self, batch: list[Stored]) -> None:
        """Fold stored batches in, and publish each tool they are about.

        Raises:
            BusUnavailable, Conflict: not all of them could be published.
        """
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def publish(key: Key, delta: Aggregate) -> None:
            async with slots:
                await self._publish(key, delta)

        deltas = self._fold(batch)
        # All of them run to their end: one cut off half-way would count twice.
        results = await asyncio.gather(
            *(publish(key, delta) for key, delta in deltas.items()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        log.debug("metrics_folded", batches=len(batch), tools=len(deltas))

    def _fold(self, batch: list[Stored]) -> Mapping[Key, Aggregate]:
        deltas: dict[Key, Aggregate] = defaultdict(Aggregate)
        for stored in batch:
            try:
                records = decode(stored.payload, RecordBatch).records
            except InvalidRequest as error:
                self._count_malformed("batch_malformed", stored.subject, error)
                continue
            for record in records:
                try:
                    PERFORMANCE.of(record.node, record.tool)
                except InvalidRequest as error:
                    self._count_malformed("record_malformed", stored.subject, error)
                else:
                    deltas[record.node, record.tool].add(record)
        return deltas

    async def _publish(self, key: Key, delta: Aggregate) -> None:
        subject = PERFORMANCE.of(*key)
        known = self._known.pop(key, None)
        for _ in range(ATTEMPTS):
            aggregate, sequence = known or await self._load(subject)
            aggregate.merge(delta)
            try:
                sequence = await self._bus.store(
                    subject, encode(aggregate.performance(*key)), expect=sequence
                )
            except Conflict:
                known = None
                continue
            self._remember(key, (aggregate, sequence))
            return
        raise Conflict(f"other workers published {subject} first, {ATTEMPTS} times")

    async def _load(self, subject: str) -> Known:
        stored = await self._bus.last(PERFORMANCE_STREAM, subject)
        if stored is None:
            return Aggregate(), 0
        try:
            aggregate = Aggregate.of(decode(stored.payload, Performance))
        except InvalidRequest as error:
            self._count_malformed("performance_malformed", subject, error)
            return Aggregate(), stored.sequence
        if aggregate.sketch_refused:
            self._count_malformed("sketch_malformed", subject, InvalidRequest("latencies begin anew"))
        return aggregate, stored.sequence

    def _remember(self, key: Key, known: Known) -> None:
        self._known[key] = known
        while len(self._known) > self._cache_size:
            self._known.popitem(last=False)

    def _count_malformed(self, operation: str, subject: str, error: InvalidRequest) -> None:
        self.malformed += 1
        log.warn(operation, subject=subject, reason=error.message)
