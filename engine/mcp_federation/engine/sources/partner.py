"""A partner's REST face: listing its tools, running them, reading its performance records."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct
from yarl import URL

from mcp_federation.contract.messages import Tally
from mcp_federation.engine.choice.pareto import MAX_CLAIM, Performance
from mcp_federation.engine.http import bearer, exchange
from mcp_federation.engine.sources.json_array import elements
from mcp_federation.engine.sync import run_in_thread
from mcp_federation.errors import (
    DeadlineExceeded,
    FederationError,
    InternalError,
    InvalidArguments,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    ServerUnavailable,
    ToolNotFound,
    Unauthorized,
    error_from,
)
from mcp_federation.estimation import MAX_COST, log_of, mean_cost
from mcp_federation.logs import get_logger

MAX_LISTING_BYTES = 16 * 1024 * 1024
MAX_RESULT_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 5_000
"""Tools of one partner that are taken; the rest of a longer list is left out, and that is logged."""

MAX_MESSAGE = 1_000
DISCOVER_TIMEOUT = 5.0
EXECUTE_TIMEOUT = 60.0

log = get_logger("engine")

_BY_STATUS: Mapping[int, type[FederationError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: ToolNotFound,
    413: PayloadTooLarge,
    422: InvalidArguments,
    429: Overloaded,
    502: ServerUnavailable,
    503: ServerUnavailable,
    504: DeadlineExceeded,
}


class PartnerEntry(Struct, frozen=True):
    """One tool of a partner's `/discover`; only the name must be there, and may be a federated one."""

    name: Annotated[str, Meta(min_length=1, max_length=320)]
    description: Annotated[str, Meta(max_length=100_000)] | None = None
    version: Annotated[str, Meta(max_length=256)] | None = None
    title: Annotated[str, Meta(max_length=1_000)] | None = None
    server: Annotated[str, Meta(max_length=1_000)] | None = None
    input_schema: dict[str, Any] | None = None
    executable: bool = True
    available: bool = True


class PartnerRecord(Struct, frozen=True):
    """One record of a partner's `GET /metadata`, or one entry for `count` executions; latency in ms."""

    mcp_name: str
    success: bool
    latency_ms: Annotated[float, Meta(ge=0, le=1e9)]
    cost: Annotated[float, Meta(ge=0, le=MAX_COST)] = 0.0
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    success_rate: Annotated[float, Meta(ge=0, le=1)] | None = None

    @property
    def rate(self) -> float:
        """The share of its executions that succeeded."""
        return float(self.success) if self.success_rate is None else self.success_rate


T = TypeVar("T")


def base_url(url: str) -> URL:
    """The partner's base URL without credentials, query and fragment.

    Raises:
        InvalidRequest: it is no http or https URL with a host.
    """
    try:
        parsed = URL(url.strip())
        if parsed.scheme in ("http", "https") and parsed.host:
            return parsed.origin().with_path(parsed.path.rstrip("/"))
    except ValueError:
        pass
    raise InvalidRequest("a partner needs a URL such as https://partner.example:8000")


def host_label(url: URL) -> str:
    """The `host` in `name@host`: with its port where that is not the scheme's own."""
    return url.host_port_subcomponent or ""


def valid_entries(items: Sequence[Raw], peer: str) -> list[tuple[PartnerEntry, Raw]]:
    """The entries that are fit to list, each with its JSON; the first of each name, `MAX_ENTRIES` at most."""
    entries: dict[str, tuple[PartnerEntry, Raw]] = {}
    refused = 0
    for item in items[:MAX_ENTRIES]:
        try:
            str(item, "utf-8")  # Fields that are not known are not read, but go on to whoever lists it.
            entry = msgspec.json.decode(item, type=PartnerEntry)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            refused += 1
            continue
        # Not printable: control and invisible characters, and lone surrogates.
        if entry.name in entries or not entry.name.isprintable():
            refused += 1
        else:
            entries[entry.name] = (entry, item)
    left_out = len(items) - min(len(items), MAX_ENTRIES)
    if refused or left_out:
        log.warn(
            "partner_entries_refused",
            message=f"of {len(items)} tools that {peer} lists, {len(entries)} are taken",
            partner=peer,
            unfit=refused,
            over_limit=left_out,
        )
    return list(entries.values())


async def discover(
    url: str, token: str | None = None, timeout: float = DISCOVER_TIMEOUT
) -> list[tuple[PartnerEntry, Raw]]:
    """The tools that the partner lists, each with its JSON as it came. `timeout` in seconds.

    Raises:
        FederationError: the partner is down, slow, refuses, or answers something else than a list.
    """
    items = await _get_list(url, "discover", token, timeout)
    return await asyncio.to_thread(valid_entries, items, host_label(base_url(url)))


async def performance(
    url: str, token: str | None = None, timeout: float = DISCOVER_TIMEOUT
) -> dict[str, Performance]:
    """What the partner's recent records say of its tools, by the name it gives them: its own word.

    Raises:
        FederationError: as `discover`.
    """
    by_name: defaultdict[str, list[PartnerRecord]] = defaultdict(list)
    for item in (await _get_list(url, "metadata", token, timeout))[:MAX_ENTRIES]:
        try:
            record = msgspec.json.decode(item, type=PartnerRecord)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        by_name[record.mcp_name].append(record)
    peer = host_label(base_url(url))
    return {name: _summary(peer, records) for name, records in by_name.items()}


async def execute(
    url: str,
    mcp_name: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    token: str | None = None,
    timeout: float = EXECUTE_TIMEOUT,
) -> Any:
    """Run a tool at the partner and return its result. `timeout` in seconds.

    Raises:
        FederationError: the partner is down, slow, or answered with that error.
    """
    base = base_url(url)
    peer = host_label(base)
    status, body = await exchange(
        "POST",
        str(base / "execute"),
        headers=bearer(token),
        timeout=timeout,
        max_bytes=MAX_RESULT_BYTES,
        body={"mcp_name": mcp_name, "args": list(args or ()), "kwargs": dict(kwargs or {})},
        peer=peer,
    )
    answer = _answer(status, body, _object, peer, token)
    if "result" not in answer:
        raise ServerUnavailable(f"{peer} answered without a result")
    return answer["result"]


def remote_discover(
    url: str, token: str | None = None, timeout: float = DISCOVER_TIMEOUT
) -> list[dict[str, Any]]:
    """`discover` for synchronous callers: the partner's entries as it gives them.

    Raises:
        FederationError: as `discover`.
    """
    entries = run_in_thread(lambda: discover(url, token, timeout), timeout)
    return [msgspec.json.decode(item, type=dict[str, Any]) for _, item in entries]


def remote_execute(
    url: str,
    mcp_name: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    token: str | None = None,
    timeout: float = EXECUTE_TIMEOUT,
) -> Any:
    """`execute` for synchronous callers.

    Raises:
        FederationError: as `execute`.
    """
    return run_in_thread(lambda: execute(url, mcp_name, args, kwargs, token, timeout), timeout)


async def _get_list(url: str, path: str, token: str | None, timeout: float) -> list[Raw]:
    base = base_url(url)
    peer = host_label(base)
    status, body = await exchange(
        "GET",
        str(base / path),
        headers=bearer(token),
        timeout=timeout,
        max_bytes=MAX_LISTING_BYTES,
        peer=peer,
    )
    # Parsing megabytes takes a while: not on the event loop.
    return await asyncio.to_thread(_answer, status, body, elements, peer, token)


def _answer(status: int, body: bytes, read: Callable[[bytes], T], peer: str, token: str | None) -> T:
    if not 200 <= status < 300:
        raise _refusal(status, body, peer, token)
    try:
        return read(body)
    except (ValueError, RecursionError) as error:
        raise ServerUnavailable(f"{peer} answered something that is not what was asked for") from error


def _object(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])


_PROBLEM = frozenset({"type", "title", "status", "detail", "code", "instance"})
"""What every problem has; its other members are details of its kind."""


def _refusal(status: int, body: bytes, peer: str, token: str | None) -> FederationError:
    """The error behind an error answer: by its problem's `code`, else by its status."""
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = {}
    said = problem.get("detail")
    message = f"{peer} answered {status}"
    if isinstance(said, str):
        readable = "".join(char for char in said if char.isprintable())[:MAX_MESSAGE]
        message = f"{peer}: {readable.replace(token, '***') if token else readable}"
    code = problem.get("code")
    if isinstance(code, str):
        return error_from(
            code, message, {key: value for key, value in problem.items() if key not in _PROBLEM}
        )
    return _BY_STATUS.get(status, InternalError)(message)


def _summary(peer: str, records: Sequence[PartnerRecord]) -> Performance:
    """All of them as one; what failed says nothing of the tool's speed."""
    count = sum(record.count for record in records)
    successes = sum(record.rate * record.count for record in records)
    log_latency = sum(record.rate * record.count * log_of(record.latency_ms) for record in records)
    return Performance(
        count=min(count, MAX_CLAIM),
        success_rate=min(1.0, successes / count),
        latency_ms=math.exp(log_latency / successes) if successes else 0.0,
        mean_cost=mean_cost(Tally(count=r.count, cost=r.cost * r.count) for r in records),
        provider=peer,
    )
