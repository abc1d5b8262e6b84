"""The outermost layer: who may come in, what became of each request, and the last resort for errors."""

import asyncio
from collections.abc import Collection
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_federation.edge.incoming import Incoming
from mcp_federation.edge.problems import problem_response
from mcp_federation.errors import Cancelled, InternalError, Unauthorized
from mcp_federation.logs import get_logger
from mcp_federation.trust.tokens import token_matches

log = get_logger("edge")

CLIENT_GONE = 499
REFUSAL = 400
"""The statuses from here on may be answered ahead of the body."""

_MAX_PATH = 256


class Gate:
    """Knows callers by their bearer token; without a token to check against it is open."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    @property
    def open(self) -> bool:
        """Whether anyone may come in."""
        return self._token is None

    def admits(self, scope: Scope) -> bool:
        """Whether the request may come in."""
        if self._token is None:
            return True
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return token_matches(sent.decode(errors="replace"), self._token)


class _Sending:
    """The sending side of one request; a refusal ends behind what the client is still sending."""

    def __init__(self, scope: Scope, incoming: Incoming, send: Send) -> None:
        self.status = 0
        self._scope = scope
        self._incoming = incoming
        self._send = send
        self._lingers = False

    async def __call__(self, message: Message) -> None:
        """As ASGI has it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status >= REFUSAL and self._incoming.has_left(self._scope["headers"]):
                self._lingers = True
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        elif self._lingers and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._incoming.drain()
            message = {"type": "http.response.body"}
        await self._send(message)


class Guard:
    """Checks the token before anything of the request is read, logs each request, and answers every error."""

    def __init__(self, app: ASGIApp, *, gate: Gate, public: Collection[str], log_requests: bool) -> None:
        self._app = app
        self._gate = gate
        self._public = public
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        incoming = Incoming(receive)
        sending = _Sending(scope, incoming, send)
        try:
            await self._answer(scope, incoming, sending)
        except ClientDisconnect:
            sending.status = CLIENT_GONE
        except asyncio.CancelledError:
            if not sending.status:
                stopping = Cancelled("the edge is stopping")
                await problem_response(stopping)(scope, incoming, sending)
            raise
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"][:_MAX_PATH])
            if not sending.status:
                error = InternalError("the request failed for a reason of ours")
                await problem_response(error)(scope, incoming, sending)
        finally:
            if self._log_requests:
                _log_request(scope, sending.status, perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in self._public or self._gate.admits(scope):
            await self._app(scope, receive, send)
        else:
            refusal = Unauthorized("a valid bearer token is needed")
            await problem_response(refusal)(scope, receive, send)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    log.info(
        "request",
        level="http",
        method=scope["method"],
        path=scope["path"][:_MAX_PATH],
        status=status,
        ms=round(seconds * 1000, 2),
    )
