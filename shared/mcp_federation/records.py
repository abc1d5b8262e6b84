"""Records on their way out of a process: made anonymous, gathered, shuffled, sent in batches.

What leaves with a record: the tool and its node, whether it succeeded, the latency and the cost to three
significant digits (latencies no finer than 0.1 ms; exact ones could be matched with somebody's own
measurement), and of a failure its code in `mcp_federation.errors`, any other kind as `other`. What does
not: arguments, results, messages, callers, times, and the order in which things ran.
"""

import asyncio
from collections import deque
from secrets import SystemRandom

from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Record, RecordBatch, decode, encode
from mcp_federation.contract.names import check_local_name
from mcp_federation.contract.subjects import METRICS
from mcp_federation.errors import BusUnavailable, FederationError, InvalidRequest
from mcp_federation.logs import get_logger

log = get_logger("records")

OTHER_KIND = "other"
"""The error kind of failures whose own kind is unknown, or says more than a kind should."""

KINDS = frozenset(kind.code for kind in FederationError.__subclasses__())
MAX_BATCH = 1000
STOP_DEADLINE = 5.0

_DIGITS = 3
_FINEST_MS = 1
_ENVELOPE = len(encode(RecordBatch(records=())))
_HEADROOM = 256
"""Bytes of a message left to headers, which count towards the bus's bound."""

_shuffle = SystemRandom().shuffle


def anonymous(record: Record) -> Record:
    """What may leave of a record; see the module for what that is.

    Raises:
        InvalidRequest: a name or a number is none that a record may have.
    """
    check_local_name(record.tool)
    latency = round(float(f"{record.latency_ms:.{_DIGITS}g}"), _FINEST_MS)
    kind = None if record.success else record.error_kind if record.error_kind in KINDS else OTHER_KIND
    leaving = Record(
        node=record.node,
        tool=record.tool,
        success=record.success,
        latency_ms=latency,
        cost=float(f"{record.cost:.{_DIGITS}g}"),
        error_kind=kind,
    )
    return decode(encode(leaving), Record)


class RecordPublisher:
    """Gathers the records of one process and stores them in batches on `METRICS.of(node)`.

    A batch leaves every `interval` seconds, or as soon as `max_batch` records wait, and is sent again
    in the next round when the bus is unavailable: at least once. Beyond `max_pending` records the
    oldest are dropped.
    """

    def __init__(
        self, bus: Bus, node: str, *, max_batch: int = 200, interval: float = 1.0, max_pending: int = 10_000
    ) -> None:
        if not 0 < max_batch <= MAX_BATCH:
            raise ValueError(f"a batch has 1 to {MAX_BATCH} records, not {max_batch}")
        self.published = 0
        self.dropped = 0
        self._bus = bus
        self._subject = METRICS.of(node)
        self._max_batch = max_batch
        self._interval = interval
        self._max_pending = max_pending
        self._pending: deque[Record] = deque()
        self._due = asyncio.Event()
        self._stopping = asyncio.Event()
        self._interrupted = False
        self._overflowing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """How many records wait to be published."""
        return len(self._pending)

    def add(self, record: Record) -> None:
        """Take a record; it leaves with one of the next batches. Never blocks, never raises."""
        self._pending.append(record)
        self._drop_oldest()
        if len(self._pending) >= self._max_batch:
            self._due.set()

    async def start(self) -> None:
        """Begin to publish, in a task that `stop` ends."""
        if self._task is None:
            self._stopping.clear()
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, deadline: float = STOP_DEADLINE) -> None:
        """Publish what is left, in at most `deadline` seconds; what then is left is lost and logged."""
        if self._task is None:
            return
        self._stopping.set()
        task, self._task = self._task, None
        _, late = await asyncio.wait({task}, timeout=deadline)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._pending:
            log.warn("records_lost", records=len(self._pending), deadline_passed=bool(late))
            self.dropped += len(self._pending)
            self._pending.clear()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            # After a failure a full interval passes: a full batch would else try again at once.
            await self._wait(self._stopping if self._interrupted else self._due)
            self._due.clear()
            await self._publish_pending()

    async def _wait(self, event: asyncio.Event) -> None:
        """Wait for the event or for stopping, at most one interval."""
        waits = [asyncio.ensure_future(each.wait()) for each in {event, self._stopping}]
        try:
            await asyncio.wait(waits, timeout=self._interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _publish_pending(self) -> None:
        leaving = self._leaving()
        try:
            while leaving:
                size = self._fitting(leaving)
                batch = leaving[-size:]
                await self._bus.store(self._subject, encode(RecordBatch(records=tuple(batch))))
                del leaving[-size:]
                self.published += size
                self._resumed()
        except BusUnavailable as error:
            self._interrupt(error)
        except FederationError as error:
            # The bus will never take this batch: keeping it would hold up all that follow.
            del leaving[-size:]
            self.dropped += size
            log.warn("records_refused", records=size, code=error.code, reason=error.message)
        finally:
            self._pending.extendleft(leaving)
            self._drop_oldest()

    def _leaving(self) -> list[Record]:
        """All that waits, as it may leave, in an order that tells nothing."""
        leaving = []
        for record in self._pending:
            try:
                leaving.append(anonymous(record))
            except (InvalidRequest, OverflowError) as error:
                self.dropped += 1
                log.warn("record_refused", reason=str(error))
        self._pending.clear()
        _shuffle(leaving)
        return leaving

    def _fitting(self, records: list[Record]) -> int:
        """How many of the last records fit into one message; at least one."""
        room = self._bus.max_payload - _HEADROOM - _ENVELOPE
        for count, record in enumerate(reversed(records[-self._max_batch :])):
            room -= len(encode(record)) + 1
            if room < 0:
                return max(1, count)
        return min(len(records), self._max_batch)

    def _drop_oldest(self) -> None:
        while len(self._pending) > self._max_pending:
            self._pending.popleft()
            self.dropped += 1
            if not self._overflowing:
                self._overflowing = True
                log.warn(
                    "records_dropped", message="too many records wait: the oldest go", node=self._subject
                )

    def _interrupt(self, error: FederationError) -> None:
        if not self._interrupted:
            log.warn("records_kept", message="the bus is unavailable: records wait", reason=error.message)
        self._interrupted = True

    def _resumed(self) -> None:
        if self._overflowing:
            log.warn("records_resumed", dropped=self.dropped)
        self._interrupted = self._overflowing = False
