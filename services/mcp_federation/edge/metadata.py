"""`POST|GET /metadata`: performance records, anonymised, kept on the METRICS stream."""

import asyncio
from collections import deque
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.catalog.state import CatalogState
from mcp_federation.contract.messages import Record, RecordBatch, decode, encode
from mcp_federation.contract.subjects import METRICS, METRICS_STREAM
from mcp_federation.edge.incoming import BodyReader, read_query
from mcp_federation.edge.naming import mcp_name, resolve
from mcp_federation.edge.operations import Operation, Parameter, json_response
from mcp_federation.edge.wire import KnownRecord, Upload, UploadedRecord, upload_decoder
from mcp_federation.errors import BusUnavailable, DeadlineExceeded, InvalidRequest
from mcp_federation.records import anonymous

MAX_KNOWN = 500
"""How many of the latest records an edge remembers."""

READ_TIMEOUT = 1.0
"""Seconds that a start waits for the records that are there already."""

ECHO_TIMEOUT = 2.0
"""Seconds that an upload waits to see its own records come back from the stream."""

UPLOAD = Operation(
    method="POST",
    path="/metadata",
    summary="Upload performance records",
    description="They are anonymised: numbers to three digits, of a failure its kind alone.",
    body=Upload,
    answers={204: None},
    errors=(BusUnavailable,),
)
RECENT = Operation(
    method="GET",
    path="/metadata",
    summary="Recent performance records",
    description="Of all nodes, the newest first.",
    parameters=(
        Parameter(
            "limit",
            "how many",
            {"type": "integer", "minimum": 1, "maximum": MAX_KNOWN, "default": MAX_KNOWN},
        ),
    ),
    answers={200: list[KnownRecord]},
)


class MetadataLog:
    """The latest records of the mesh. Start it, read it synchronously, stop it."""

    def __init__(self, bus: Bus, size: int = MAX_KNOWN) -> None:
        self._bus = bus
        self._size = size
        self._records: deque[Record] = deque(maxlen=size)
        self._follower: Follower | None = None
        self._sequence = 0
        self._advanced = asyncio.Event()

    async def start(self) -> None:
        """Read what the stream has, and follow it; one that is not there yet is waited for behind."""
        self._follower = await self._bus.follow(METRICS_STREAM, self._on_stored, tail=self._size)
        with suppress(DeadlineExceeded):
            await self._follower.caught_up(READ_TIMEOUT)

    async def stop(self) -> None:
        """Stop following."""
        if self._follower is not None:
            await self._follower.close()

    def newest(self, limit: int) -> list[Record]:
        """The latest records, at most `limit`, the newest first."""
        return [record for record, _ in zip(reversed(self._records), range(limit), strict=False)]

    async def add(self, node: str, records: list[Record]) -> None:
        """Keep records in the name of a node, and wait a little until they are read back.

        Raises:
            BusUnavailable: the stream does not keep them.
            PayloadTooLarge: they do not fit into one message.
        """
        sequence = await self._bus.store(METRICS.of(node), encode(RecordBatch(records=tuple(records))))
        with suppress(TimeoutError):
            async with asyncio.timeout(ECHO_TIMEOUT):
                while self._sequence < sequence:
                    await self._advanced.wait()

    async def _on_stored(self, stored: Stored) -> None:
        self._sequence = stored.sequence
        try:
            self._records.extend(decode(stored.payload, RecordBatch).records)
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
            await self._log.add(self._home, [self._record(item) for item in uploaded])
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
    """Gives the latest records out."""

    def __init__(self, log: MetadataLog, home: str) -> None:
        self._log = log
        self._home = home

    async def __call__(self, request: Request) -> Response:
        """Answer `GET /metadata`."""
        text = read_query(request, ("limit",)).get("limit", str(MAX_KNOWN))
        limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_KNOWN)) else 0
        if not 1 <= limit <= MAX_KNOWN:
            raise InvalidRequest(f"limit is a number from 1 to {MAX_KNOWN}")
        return json_response([self._known(record) for record in self._log.newest(limit)])

    def _known(self, record: Record) -> KnownRecord:
        return KnownRecord(
            mcp_name=mcp_name(record.tool, record.node, self._home),
            success=record.success,
            latency_ms=record.latency_ms,
            cost=record.cost,
            error_kind=record.error_kind,
            node=record.node,
            tool=record.tool,
        )
