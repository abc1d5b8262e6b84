"""`POST|GET /metadata`: what is known of single executions, and of many where statistics are shared."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response

from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.catalog.state import CatalogState, CatalogTool
from mcp_federation.contract.messages import (
    Record,
    RecordBatch,
    Statistics,
    decode_metrics,
    encode,
)
from mcp_federation.contract.subjects import METRICS, METRICS_STREAM
from mcp_federation.edge.incoming import BodyReader, read_query
from mcp_federation.edge.naming import mcp_name, resolve
from mcp_federation.edge.operations import Operation, Parameter, json_response
from mcp_federation.edge.wire import KnownRecord, Upload, UploadedRecord, upload_decoder
from mcp_federation.errors import BusUnavailable, DeadlineExceeded, FederationError, InvalidRequest
from mcp_federation.estimation import MAX_LOG_LATENCY
from mcp_federation.privacy.policy import Policy
from mcp_federation.privacy.publisher import RecordPublisher
from mcp_federation.privacy.records import anonymous, known_kind, observation

MAX_KNOWN = 500
"""How many records one answer has at most."""

REMEMBERED = 5000
"""How many of the latest records an edge looks through."""

READ_TIMEOUT = 1.0
"""Seconds that a start waits for the records that are there already."""

ECHO_TIMEOUT = 2.0
"""Seconds that an upload waits to see its own records come back from the stream."""

UPLOAD = Operation(
    method="POST",
    path="/metadata",
    summary="Upload performance records",
    description=(
        "They are anonymised: numbers to three digits, of a failure its kind alone. What others get of them "
        "is a matter of MCP_FEDERATION_SHARING."
    ),
    body=Upload,
    answers={204: None},
    errors=(BusUnavailable,),
)
RECENT = Operation(
    method="GET",
    path="/metadata",
    summary="Recent performance records",
    description=(
        "Of all tools in the catalog, the newest first: those that nodes share as records, those uploaded "
        "here (of any tool), and for those shared as statistics one entry for each release."
    ),
    parameters=(
        Parameter(
            "limit",
            "how many",
            {"type": "integer", "minimum": 1, "maximum": MAX_KNOWN, "default": MAX_KNOWN},
        ),
        Parameter("node", "only of that node's tools", {"type": "string"}),
        Parameter("tool", "only of tools with that local name", {"type": "string"}),
        Parameter("success", "only what succeeded, or failed", {"type": "boolean"}),
    ),
    answers={200: list[KnownRecord]},
)


Known = tuple[str, Record | Statistics]
"""What is known, after the node that reported it."""


class MetadataLog:
    """The latest records of the mesh. Start it, read it synchronously, stop it.

    Under a policy of sharing records, what is added is kept for all in the metrics stream. Under any other
    it is remembered here, for this edge's own callers, and leaves as the policy says.
    """

    def __init__(
        self, bus: Bus, home: str, policy: Policy | None = None, *, remembered: int = REMEMBERED
    ) -> None:
        self._bus = bus
        self._home = home
        self._policy = policy or Policy()
        self._publisher = RecordPublisher(bus, home, policy=self._policy)
        self._known: deque[Known] = deque(maxlen=remembered)
        self._follower: Follower | None = None
        self._sequence = 0
        self._advanced = asyncio.Event()

    async def start(self) -> None:
        """Read what the stream has, and follow it; one that is not there yet is waited for behind."""
        await self._publisher.start()
        self._follower = await self._bus.follow(
            METRICS_STREAM, self._on_stored, tail=MAX_KNOWN, on_anew=self._on_anew
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


class UploadRecords:
    """Takes records of callers in, in the home node's name."""

    def __init__(self, log: MetadataLog, catalog: CatalogState, home: str, reader: BodyReader) -> None:
        self._log = log
        self._catalog = catalog
        self._home = home
        self._reader = reader

    async def __call__(self, request: Request) -> Response:
        """Answer `POST /metadata`."""
        uploaded = await self._reader.read(request, upload_decoder)
        if uploaded:
            await self._log.add([self._record(item) for item in uploaded])
        return Response(status_code=204)

    def _record(self, item: UploadedRecord) -> Record:
        node, tool = resolve(item.mcp_name, self._catalog, self._home)
        return anonymous(
            Record(
                node=node,
                tool=tool,
                success=item.success,
                latency_ms=item.latency_ms,
                cost=item.cost or 0.0,
                error_kind=item.error_kind,
            )
        )


class RecentRecords:
    """Gives the latest records out, but for what other nodes say of tools that the catalog does not have."""

    def __init__(self, log: MetadataLog, catalog: CatalogState, home: str) -> None:
        self._log = log
        self._catalog = catalog
        self._home = home

    async def __call__(self, request: Request) -> Response:
        """Answer `GET /metadata`."""
        query = read_query(request, ("limit", "node", "tool", "success"))
        text = query.get("limit", str(MAX_KNOWN))
        limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_KNOWN)) else 0
        if not 1 <= limit <= MAX_KNOWN:
            raise InvalidRequest(f"limit is a number from 1 to {MAX_KNOWN}")
        if query.get("success", "true") not in ("true", "false"):
            raise InvalidRequest("success is true or false")
        known = (
            self._entry(report)
            for reporter, report in self._log.newest()
            if reporter == self._home or self._catalog.get(report.node, report.tool)
        )
        return json_response(list(islice((entry for entry in known if _fits(entry, query)), limit)))

    def _entry(self, known: Record | Statistics) -> KnownRecord:
        name = mcp_name(known.tool, known.node, self._home)
        if isinstance(known, Statistics):
            return _summary(name, known)
        return KnownRecord(
            mcp_name=name,
            success=known.success,
            latency_ms=known.latency_ms,
            cost=known.cost,
            error_kind=None if known.success else known_kind(known.error_kind),
            node=known.node,
            tool=known.tool,
        )


def _fits(entry: KnownRecord, query: Mapping[str, str]) -> bool:
    return (
        query.get("node", entry.node) == entry.node
        and query.get("tool", entry.tool) == entry.tool
        and query.get("success", str(entry.success).lower()) == str(entry.success).lower()
    )


def _summary(name: str, released: Statistics) -> KnownRecord:
    """One entry for all executions of a release: what most of them were like."""
    tally = released.tally
    successes = min(max(tally.successes, 0.0), tally.count)
    log_latency = tally.log_latency / successes if successes else 0.0
    rate = successes / tally.count if tally.count else 0.0
    return KnownRecord(
        mcp_name=name,
        success=rate >= 0.5,
        latency_ms=round(math.exp(min(max(log_latency, 0.0), MAX_LOG_LATENCY)), 1) if successes else 0.0,
        cost=max(tally.cost, 0.0) / tally.count if tally.count else 0.0,
        error_kind=None,
        node=released.node,
        tool=released.tool,
        count=round(tally.count),
        success_rate=round(rate, 3),
    )
