"""The latest of what is known of executions in the mesh, as an edge shows it."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.contract.messages import Record, RecordBatch, Statistics, decode_metrics, encode
from mcp_federation.contract.subjects import METRICS, METRICS_STREAM
from mcp_federation.errors import DeadlineExceeded, FederationError
from mcp_federation.privacy.publisher import RecordPublisher
from mcp_federation.privacy.records import observation
from mcp_federation.privacy.sharing import SharingPolicy

MAX_READ = 500
"""How many records a start reads of those that are there already."""

REMEMBERED = 5000
"""How many of the latest records an edge looks through."""

READ_TIMEOUT = 1.0
"""Seconds that a start waits for the records that are there already."""

ECHO_TIMEOUT = 2.0
"""Seconds that an upload waits to see its own records come back from the stream."""

Known = tuple[str, Record | Statistics]
"""What is known, after the node that reported it."""


class MetadataLog:
    """The latest records of the mesh. Start it, read it synchronously, stop it.

    Under a policy of sharing records, what is added is kept for all in the metrics stream. Under any other
    it is remembered here, for this edge's own callers, and leaves as the policy says.
    """

    def __init__(
        self, bus: Bus, home: str, policy: SharingPolicy | None = None, *, remembered: int = REMEMBERED
    ) -> None:
        self._bus = bus
        self._home = home
        self._policy = policy or SharingPolicy()
        self._publisher = RecordPublisher(bus, home, policy=self._policy)
        self._known: deque[Known] = deque(maxlen=remembered)
        self._follower: Follower | None = None
        self._sequence = 0
        self._advanced = asyncio.Event()

    async def start(self) -> None:
        """Read what the stream has, and follow it; one that is not there yet is waited for behind."""
        await self._publisher.start()
        self._follower = await self._bus.follow(
            METRICS_STREAM, self._on_stored, tail=MAX_READ, on_anew=self._on_anew
        )
        with suppress(DeadlineExceeded):
            await self._follower.caught_up(READ_TIMEOUT)

    async def stop(self) -> None:
        """Stop following."""
        if self._follower is not None:
            await self._follower.close()
        await self._publisher.stop()

    def newest(self) -> Iterator[Known]:
        """What is known, and who reported it, the newest first."""
        return reversed(self._known)

    async def add(self, records: list[Record]) -> None:
        """Take records in, in the home node's name; where they are kept for all, until they are read back.

        Raises:
            BusUnavailable: the stream does not keep them.
            PayloadTooLarge: they do not fit into one message.
        """
        if self._policy.sharing != "records":
            self._known.extend((self._home, record) for record in records)
            for record in records:
                self._publisher.add(record)
            return
        sequence = await self._bus.store(METRICS.of(self._home), encode(RecordBatch(records=tuple(records))))
        with suppress(TimeoutError):
            async with asyncio.timeout(ECHO_TIMEOUT):
                while self._sequence < sequence:
                    await self._advanced.wait()

    def observe(self, tool: CatalogTool, seconds: float, error: FederationError | None) -> None:
        """Report what became of a call of ours. The home node reports on its own tools itself."""
        if tool.node == self._home:
            return
        record = observation(tool.node, tool.name, seconds, error)
        if record is not None:
            self._publisher.add(record)

    async def _on_anew(self) -> None:
        self._known.clear()
        self._sequence = 0

    async def _on_stored(self, stored: Stored) -> None:
        self._sequence = stored.sequence
        try:
            reporter, _ = METRICS.parse(stored.subject)
            message = decode_metrics(stored.payload)
            reports = message.records if isinstance(message, RecordBatch) else message.statistics
            self._known.extend((reporter, report) for report in reports)
        finally:
            self._advanced.set()
            self._advanced = asyncio.Event()
