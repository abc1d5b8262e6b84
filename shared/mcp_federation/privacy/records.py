"""What may leave of an execution's record. Pure.

What of an execution is looked at: the tool and its node, whether it succeeded, the latency and the cost to
three significant digits (latencies no finer than 0.1 ms; exact ones could be matched with somebody's own
measurement), and of a failure its code in `mcp_federation.errors`, any other kind as `other`. What is not:
arguments, results, messages, callers, times.
"""

from functools import lru_cache
from math import inf

from mcp_federation.contract.messages import Record, decode, encode
from mcp_federation.contract.names import check_local_name, check_node_name
from mcp_federation.errors import (
    CODES,
    DeadlineExceeded,
    FederationError,
    InternalError,
    InvalidRequest,
    NodeLost,
    NodeUnavailable,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
)

OTHER_KIND = "other"
"""The error kind of failures whose own kind is unknown, or says more than a kind should."""

_OF_THE_PROVIDER = (
    DeadlineExceeded,
    InternalError,
    NodeLost,
    NodeUnavailable,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
)
"""Errors that a better provider would not have had; the rest are the caller's, or a moment's."""

_DIGITS = 3
_FINEST_MS = 1


def anonymous(record: Record) -> Record:
    """What may leave of a record; see the module for what that is.

    Raises:
        InvalidRequest: a name or a number is none that a record may have.
    """
    _check_names(record.node, record.tool)
    latency = round(float(f"{record.latency_ms:.{_DIGITS}g}"), _FINEST_MS)
    kind = None if record.success else known_kind(record.error_kind)
    leaving = Record(
        node=record.node,
        tool=record.tool,
        success=record.success,
        latency_ms=latency,
        cost=float(f"{record.cost:.{_DIGITS}g}"),
        error_kind=kind,
    )
    return decode(encode(leaving), Record)


def known_kind(kind: str | None) -> str:
    """The error kind of a failure, where it is one of `CODES`; any other could say anything."""
    return kind if kind in CODES else OTHER_KIND


def counted(record: Record) -> Record:
    """The record itself, fit to be counted in statistics, which round and tell nothing of it alone.

    Raises:
        InvalidRequest: a name or a number is none that a record may have.
    """
    _check_names(record.node, record.tool)
    if not (0 <= record.latency_ms < inf and 0 <= record.cost < inf):
        raise InvalidRequest("a latency and a cost are numbers from 0")
    return record


@lru_cache(maxsize=4096)
def _check_names(node: str, tool: str) -> None:
    check_node_name(node)
    check_local_name(tool)


def observation(node: str, tool: str, seconds: float, error: FederationError | None) -> Record | None:
    """What a caller saw of a provider; None where the outcome says nothing of it."""
    if error is not None and not isinstance(error, _OF_THE_PROVIDER):
        return None
    return Record(
        node=node,
        tool=tool,
        success=error is None,
        latency_ms=seconds * 1000,
        error_kind=error.code if error is not None else None,
    )
