"""What goes beside a call and its answer."""

from typing import Annotated, Any

from msgspec import Meta, field

from mcp_federation.contract.messages.codec import Message, decode
from mcp_federation.contract.messages.fields import Count, Digest, Text
from mcp_federation.errors import FederationError, InternalError, InvalidRequest, error_from


class Cancel(Message, frozen=True, kw_only=True, tag="cancel"):
    """The caller no longer wants the answer to this request."""

    request_id: Annotated[str, Meta(min_length=1, max_length=64)]


class Progress(Message, frozen=True, kw_only=True, tag="progress"):
    """How far an execution is, in the tool's own measure; sent ahead of the answer to who asked for it."""

    progress: float
    total: float | None = None
    message: Text | None = None


class Running(Message, frozen=True, kw_only=True, tag="running"):
    """Which instance of a node has the call; sent ahead of the answer when that takes a while."""

    instance: str


class Blob(Message, frozen=True, kw_only=True, tag="blob"):
    """A payload too large for one message: `size` bytes, fetched in chunks by requests to `subject`."""

    subject: str
    size: Count
    digest: Digest


class ErrorReply(Message, frozen=True, kw_only=True, tag="error"):
    """Why a request failed; `code` is stable, to branch on."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


def error_reply(error: FederationError) -> ErrorReply:
    """The error as a message."""
    return ErrorReply(code=error.code, message=error.message, details=error.details)


def raise_error_reply(payload: bytes) -> None:
    """Raise the error that a peer answered with.

    Raises:
        FederationError: always; `InternalError`, which may have run, where the payload is no error reply.
    """
    try:
        reply = decode(payload, ErrorReply)
    except InvalidRequest as error:
        raise InternalError("the peer answered with an error that does not parse") from error
    raise error_from(reply.code, reply.message, reply.details)
