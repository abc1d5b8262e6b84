"""`POST|GET /metadata`: what is known of single executions, and of many where statistics are shared."""

import math
from collections.abc import Mapping
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response

from mcp_federation.catalog.state import CatalogState
from mcp_federation.contract.messages import Record, Statistics
from mcp_federation.edge.incoming import BodyReader, read_query
from mcp_federation.edge.metadata_log import MetadataLog
from mcp_federation.edge.naming import mcp_name, resolve
from mcp_federation.edge.operations import Operation, Parameter, json_response
from mcp_federation.edge.wire import KnownRecord, Upload, UploadedRecord, upload_decoder
from mcp_federation.errors import BusUnavailable, InvalidRequest
from mcp_federation.estimation import MAX_LOG_LATENCY
from mcp_federation.privacy.records import anonymous, known_kind

MAX_KNOWN = 500
"""How many records one answer has at most."""

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
