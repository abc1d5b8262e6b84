"""Every error that crosses a boundary, as one tree.

    FederationError
    ├── InvalidRequest          400  the message does not parse or breaks the contract
    ├── Unauthorized            401  no or a wrong token
    ├── ToolNotFound            404  no such tool in the catalog
    ├── Conflict                409  somebody else was first
    ├── OutcomeForgotten        409  it ran before, and its outcome is no longer kept
    ├── NotExecutable           409  the entry is published as described only
    ├── PayloadTooLarge         413  over the bound, on either side
    ├── InvalidArguments        422  the arguments break the tool's input schema
    ├── ApprovalRefused         422  an approval does not hold
    ├── RegistrationRefused     422  governance did not approve; carries the findings
    ├── Overloaded              429  at its limit; nothing ran
    ├── Cancelled               499  the caller went away
    ├── InternalError           500  a fault of ours
    ├── ToolFailed              502  the tool itself reported an error
    ├── ServerUnavailable       503  the MCP server behind the node is down; the tool may have run
    │   └── ServerDown          503  it is not running, so that surely nothing ran
    ├── NodeUnavailable         503  no node answers for the tool; nothing ran
    ├── NodeLost                503  the node died before the answer came; it may have run
    ├── BusUnavailable          503  NATS cannot be reached
    ├── ConnectionLost          503  NATS went away before the answer came; it may have run
    └── DeadlineExceeded        504  no answer in time; it may have run

`code` is the stable name that callers branch on. `status` is at once the HTTP status and the
`Nats-Service-Error-Code`. Messages are for people and never hold a stack, a secret or a path.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "ApprovalRefused",
    "BusUnavailable",
    "Cancelled",
    "Conflict",
    "ConnectionLost",
    "DeadlineExceeded",
    "FederationError",
    "InternalError",
    "InvalidArguments",
    "InvalidRequest",
    "NodeLost",
    "NodeUnavailable",
    "NotExecutable",
    "OutcomeForgotten",
    "Overloaded",
    "PayloadTooLarge",
    "RegistrationRefused",
    "ServerDown",
    "ServerUnavailable",
    "ToolFailed",
    "ToolNotFound",
    "Unauthorized",
    "error_from",
]


class FederationError(Exception):
    """The root of the tree: a `code`, a `status` and a message fit for the caller.

    `details` is JSON-ready and goes to the caller as it is.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    ran: ClassVar[bool | None] = False
    """Whether the tool may have run: False surely not, None unknown, True surely."""

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class InvalidRequest(FederationError):
    """The message does not parse or breaks the contract."""

    code, status, title = "invalid_request", 400, "Invalid request"


class Unauthorized(FederationError):
    """No token, or a wrong one."""

    code, status, title = "unauthorized", 401, "Unauthorized"


class ToolNotFound(FederationError):
    """No tool of that name is in the catalog, or on that node."""

    code, status, title = "tool_not_found", 404, "Tool not found"


class Conflict(FederationError):
    """What was to be changed is no longer what the change expected."""

    code, status, title = "conflict", 409, "Conflict"


class OutcomeForgotten(FederationError):
    """A request of that id was executed before, and its outcome is no longer kept."""

    code, status, title, ran = "outcome_forgotten", 409, "Outcome no longer kept", True


class NotExecutable(FederationError):
    """The catalog entry describes a tool that nothing runs."""

    code, status, title = "not_executable", 409, "Tool is described only"


class PayloadTooLarge(FederationError):
    """The arguments or the result are over the bound."""

    code, status, title, ran = "payload_too_large", 413, "Payload too large", None


class InvalidArguments(FederationError):
    """The arguments break the tool's input schema."""

    code, status, title = "invalid_arguments", 422, "Invalid arguments"


class ApprovalRefused(FederationError):
    """The approval does not hold: wrong key, other tool, other digest, expired, or forged."""

    code, status, title = "approval_refused", 422, "Approval refused"


class RegistrationRefused(FederationError):
    """Governance did not approve the registration; `details["findings"]` says why."""

    code, status, title = "registration_refused", 422, "Registration refused"


class Overloaded(FederationError):
    """The node is at its limit and refused at once; `details["retry_after_ms"]` hints when to retry."""

    code, status, title = "overloaded", 429, "Overloaded"


class Cancelled(FederationError):
    """The caller cancelled the execution."""

    code, status, title, ran = "cancelled", 499, "Cancelled", None


class InternalError(FederationError):
    """A fault of the federation itself; the log of the process has the cause."""

    ran = None


class ToolFailed(FederationError):
    """The tool ran and reported an error of its own; the message is the tool's."""

    code, status, title, ran = "tool_failed", 502, "Tool failed", True


class ServerUnavailable(FederationError):
    """The MCP server that has the tool is down or restarting."""

    code, status, title = "server_unavailable", 503, "MCP server unavailable"
    ran: ClassVar[bool | None] = None


class ServerDown(ServerUnavailable):
    """The MCP server that has the tool is not running now; nothing ran."""

    code, status, title, ran = "server_down", 503, "MCP server down", False


class NodeUnavailable(FederationError):
    """No node answers for the tool; nothing ran."""

    code, status, title = "node_unavailable", 503, "Node unavailable"


class NodeLost(FederationError):
    """The node went away while its answer was awaited; the tool may have run."""

    code, status, title, ran = "node_lost", 503, "Node lost", None


class BusUnavailable(FederationError):
    """NATS cannot be reached, or a stream that is needed is not there."""

    code, status, title = "bus_unavailable", 503, "Bus unavailable"


class ConnectionLost(FederationError):
    """The connection to NATS broke while the answer was awaited; the tool may have run."""

    code, status, title, ran = "connection_lost", 503, "Connection lost", None


class DeadlineExceeded(FederationError):
    """No answer within the deadline; the tool may have run."""

    code, status, title, ran = "deadline_exceeded", 504, "Deadline exceeded", None


_BY_CODE: dict[str, type[FederationError]] = {
    kind.code: kind for kind in (*FederationError.__subclasses__(), *ServerUnavailable.__subclasses__())
}

CODES = frozenset(_BY_CODE)
"""Every code that there is."""


def error_from(code: str, message: str, details: Mapping[str, Any] | None = None) -> FederationError:
    """The error that a peer answered with; a code that is not known here becomes an `InternalError`."""
    return _BY_CODE.get(code, InternalError)(message, details)
