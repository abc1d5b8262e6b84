"""What went wrong with an MCP server, in words: reasons for people, errors for callers. Pure."""

import re

import httpx2
import mcp_types
from mcp import MCPError
from pydantic import ValidationError

from mcp_federation.errors import (
    DeadlineExceeded,
    FederationError,
    InvalidArguments,
    ToolFailed,
    ToolNotFound,
)

MAX_REASON = 300
_LAST_WORDS = "its last words: "

_URL = re.compile(r"(https?://)(?:[^\s/?#'\"]*@)?([^\s/?#'\"]*)[^\s'\"]*")


class Ended(Exception):
    """The connection to the server is over; the message says why."""


def reason_of(error: BaseException, nonsense: str = "", last_words: str = "") -> str:
    """Why a server failed, in one line; never a stack, a secret of its configuration, or a whole URL.

    `nonsense` says what it wrote that is not MCP, `last_words` is the last line of its stderr.
    """
    parts = [_of(first_of(error)), nonsense, f"{_LAST_WORDS}{last_words}" if last_words else ""]
    text = " ".join("; ".join(filter(None, parts)).split())
    # Keys travel in URLs, in their query, their path and their user.
    text = _URL.sub(r"\1\2", text)
    return text.encode(errors="replace").decode()[:MAX_REASON]


def without_last_words(reason: str) -> str:
    """The reason in our words alone: what a server writes before it dies may be a secret."""
    return reason.partition(_LAST_WORDS)[0].rstrip("; ")


def _of(error: BaseException) -> str:
    if isinstance(error, Ended):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"the command {error.filename or ''} was not found".replace("  ", " ")
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ValidationError):
        return "it answers with what is not valid MCP"
    if isinstance(error, MCPError) and is_lost(error):
        return "it ended before it answered"
    if isinstance(error, httpx2.HTTPStatusError):
        return f"it answers with HTTP status {error.response.status_code}"
    if isinstance(error, httpx2.LocalProtocolError):
        # Its text quotes the header, and that is most often the one with the token.
        return "it cannot be reached: its URL or a header is malformed"
    if isinstance(error, httpx2.HTTPError):
        return f"it cannot be reached: {str(error) or type(error).__name__}"
    return f"{type(error).__name__}: {error}"


def is_lost(error: MCPError) -> bool:
    """Whether the connection ended, or the stream of this answer, as the SDK tells it.

    The code alone says nothing: servers answer with the same one, which JSON-RPC leaves to them.
    """
    is_from_sdk = error.message.startswith(("Connection closed", "SSE stream ")) and error.data is None
    return error.code == mcp_types.CONNECTION_CLOSED and is_from_sdk


def call_error(error: MCPError, server: str, tool: str) -> FederationError:
    """What a caller is told of an MCP error that answered a call."""
    if error.code == mcp_types.REQUEST_TIMEOUT:
        return DeadlineExceeded("the MCP server did not answer in time")
    if error.code == mcp_types.METHOD_NOT_FOUND:
        return ToolNotFound(f"the MCP server {server!r} has no tool {tool!r}")
    if error.code == mcp_types.INVALID_PARAMS:
        return InvalidArguments(error.message)
    return ToolFailed(error.message)


def first_of(error: BaseException) -> BaseException:
    """The first plain error in a group of groups: the one that began it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
