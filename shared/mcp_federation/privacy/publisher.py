"""Records on their way out of a process: gathered, and sent as the policy says.

There leave statistics with noise (see `privacy.release`), or the records themselves, in an order that tells
nothing, or nothing at all.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from secrets import SystemRandom

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Message, Record, RecordBatch, Statistics, StatisticsBatch, encode
from mcp_federation.contract.subjects import METRICS
from mcp_federation.errors import BusUnavailable, FederationError, InternalError, InvalidRequest
from mcp_federation.logs import get_logger
from mcp_federation.privacy.records import anonymous, counted
from mcp_federation.privacy.release import Gatherer
from mcp_federation.privacy.sharing import SharingPolicy

log = get_logger("records")

MAX_BATCH = 1000
"""The most records, or statistics, that one message may have."""

STOP_DEADLINE = 5.0

_ENVELOPE = max(len(encode(RecordBatch(records=()))), len(encode(StatisticsBatch(statistics=()))))
_HEADROOM = 256
"""Bytes of a message left to headers, which count towards the bus's bound."""

_shuffle = SystemRandom().shuffle

Leaving = Record | Statistics


class RecordPublisher:
    """Gathers the records of one process and stores what the policy lets out on `METRICS.of(node)`.

    A batch leaves every `interval` seconds, or as soon as `max_batch` records wait. While the bus is
    unavailable they wait for a later round; beyond `max_pending` the oldest are dropped. A batch whose
    acknowledgement was lost is sent again: at least once.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        *,
        policy: SharingPolicy | None = None,
        max_batch: int = 200,
        interval: float = 1.0,
        max_pending: int = 10_000,
    ) -> None:
        if not 0 < max_batch <= MAX_BATCH:
            raise ValueError(f"a batch has 1 to {MAX_BATCH} records, not {max_batch}")
        self.published = 0
        self.dropped = 0
        self._bus = bus
        self._subject = METRICS.of(node)
        self._policy = policy or SharingPolicy()
        self._gatherer = _gatherer(self._policy)
        self._max_batch = max_batch
        self._interval = interval
        self._max_pending = max_pending
        self._pending: deque[Leaving] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._interrupted = False
        self._overflowing = False
        self._unaccounted = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """How many records, or statistics, wait to be published."""
        return len(self._pending)

    def add(self, record: Record) -> None:
        """Take a record, on the event loop's thread; what the policy makes of it leaves later."""
        if self._policy.sharing == "nothing":
            return
        try:
            if self._gatherer is not None:
                self._gatherer.add(counted(record))
                return
            leaving = anonymous(record)
        except InvalidRequest as error:
            self.dropped += 1
            log.warn("record_refused", message="without a valid name or number", reason=error.message)
            return
        self._pending.append(leaving)
        self._drop_oldest()
        # While the bus is away a full batch is no reason to try again before the interval is over.
        if len(self._pending) >= self._max_batch and not self._interrupted:
            self._wake.set()

    async def start(self) -> None:
        """Begin to publish, in a task that `stop` ends."""
        if self._task is None:
            self._stopping = False
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, deadline: float = STOP_DEADLINE) -> None:
        """Publish what may leave, in at most `deadline` seconds; what is left then is lost, and logged."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self._stopping = True
        self._wake.set()
        await asyncio.wait({task}, timeout=deadline)
        await stop_task(task)
        if self._gatherer is not None:
            self._gatherer.close()
        if self._pending:
            log.warn("records_lost", message="not published before the end", records=len(self._pending))
            self.dropped += len(self._pending)
            self._pending.clear()

    async def _run(self) -> None:
        while not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            self._wake.clear()
            await self._publish()
        await self._publish()

    async def _publish(self) -> None:
        """One round: send all that waits; keep what the bus does not take now."""
        if self._gatherer is not None:
            self._pending.extend(await self._released(self._gatherer))
        leaving = list(self._pending)
        self._pending.clear()
        _shuffle(leaving)
        try:
            while leaving:
                size = self._fitting(leaving)
                await self._send(leaving[-size:])
                del leaving[-size:]
        except BusUnavailable as error:
            if not self._interrupted:
                log.warn("records_kept", message="the bus is away: records wait", reason=error.message)
            self._interrupted = True
        finally:
            self._pending.extendleft(leaving)
            self._drop_oldest()

    async def _released(self, gatherer: Gatherer) -> list[Statistics]:
        ripe = gatherer.ripe()
        if not ripe:
            return []
        try:
            # In a thread: it waits for the disk, and for other processes.
            paid = await asyncio.to_thread(gatherer.spend, ripe, time.time())
        except InternalError as error:
            if not self._unaccounted:
                log.warn(
                    "statistics_kept", message="nothing leaves without its account", reason=error.message
                )
            self._unaccounted = True
            return []
        self._unaccounted = False
        return gatherer.released(paid)

    def _fitting(self, leaving: list[Leaving]) -> int:
        """How many of the last ones go into one message; at least one."""
        room = self._bus.max_payload - _HEADROOM - _ENVELOPE
        for count, item in enumerate(reversed(leaving[-self._max_batch :])):
            room -= len(encode(item)) + 1
            if room < 0:
                return max(1, count)
        return min(len(leaving), self._max_batch)

    async def _send(self, batch: list[Leaving]) -> None:
        try:
            await self._bus.store(self._subject, encode(_message(batch)))
        except BusUnavailable:
            raise
        except FederationError as error:
            # The bus will never take it: kept, it would hold up all that follow.
            self.dropped += len(batch)
            log.warn("batch_refused", records=len(batch), code=error.code, reason=error.message)
            return
        self.published += len(batch)
        self._interrupted = self._overflowing = False

    def _drop_oldest(self) -> None:
        while len(self._pending) > self._max_pending:
            self._pending.popleft()
            self.dropped += 1
            if not self._overflowing:
                log.warn("records_dropped", message="too many records wait: the oldest go")
            self._overflowing = True


def _gatherer(policy: SharingPolicy) -> Gatherer | None:
    if policy.sharing != "statistics":
        return None
    from mcp_federation.privacy.noise import LaplaceNoise  # not before it is needed: see there

    return Gatherer(policy, LaplaceNoise())


def _message(batch: Sequence[Leaving]) -> Message:
    """All of a process's batches are of one kind, as its policy is one."""
    records = tuple(item for item in batch if isinstance(item, Record))
    if records:
        return RecordBatch(records=records)
    return StatisticsBatch(statistics=tuple(item for item in batch if isinstance(item, Statistics)))
