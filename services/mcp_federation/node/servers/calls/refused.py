"""What an HTTP status that refuses a call means to who called. Pure."""

from http import HTTPStatus

from mcp_federation.errors import Overloaded, PayloadTooLarge, ServerUnavailable
from mcp_federation.node.servers.calls.calling import Disconnected

RETRY_AFTER_MS = 1000
"""Where a server that is at its limit does not say itself when to try again."""


def refused(status: int, server: str, *, session: bool = False, retry_after: str = "") -> Exception:
    """The error for a status of 400 and more; `session` where the answer speaks of our session.

    A status below 500 says that the request went no further, so that surely no tool ran.
    """
    name = f"the MCP server {server!r}"
    if status == HTTPStatus.NOT_FOUND or (status == HTTPStatus.BAD_REQUEST and session):
        fault = "it no longer knew our session" if session else ""
        return Disconnected(f"{name} no longer takes calls on this connection", fault=fault, ran=False)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Disconnected(f"{name} does not accept our login", ran=False)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = int(retry_after) * 1000 if retry_after.isdecimal() and len(retry_after) < 6 else RETRY_AFTER_MS
        return Overloaded(f"{name} has as many calls as it takes", {"retry_after_ms": wait})
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return PayloadTooLarge(f"{name} takes no arguments as large as these")
    message = f"{name} answers with HTTP status {status}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Disconnected(message)
    return ServerUnavailable(message)
