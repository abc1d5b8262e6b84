"""`POST /execute`: one call of a tool, for as long as the caller stays on the line."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from mcp_federation.catalog.state import CatalogTool
from mcp_federation.client import FederationClient
from mcp_federation.client.liveness import WhileWatched
from mcp_federation.contract.deadlines import seconds_of
from mcp_federation.contract.mcp import CallResult
from mcp_federation.contract.subjects import Header
from mcp_federation.edge.events import EventStream, wants_events
from mcp_federation.edge.incoming import BodyReader
from mcp_federation.edge.operations import Operation, Parameter
from mcp_federation.edge.problems import problem_response
from mcp_federation.edge.wire import ExecuteRequest, ExecuteResponse, execute_decoder
from mcp_federation.errors import (
    BusUnavailable,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    FederationError,
    InvalidArguments,
    InvalidRequest,
    NodeLost,
    NodeUnavailable,
    NotExecutable,
    OutcomeForgotten,
    Overloaded,
    ServerDown,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
)
from mcp_federation.settings import Settings

EXECUTE = Operation(
    method="POST",
    path="/execute",
    summary="Execute a tool",
    description=(
        "A plain name goes to the best available provider, and on to the next while nothing ran. "
        "A caller that hangs up cancels the execution, and so does one that closes only its sending side: "
        "on the line the two look alike. With `Accept: text/event-stream` the answer is a "
        "stream of server-sent events: `progress` as the tool tells of it, and at last `result` or, with "
        "problem details, `error`; an error ahead of all events is answered with its own status."
    ),
    body=ExecuteRequest,
    parameters=(
        Parameter(
            Header.TIMEOUT_MS,
            "The deadline in milliseconds, as on the bus; the sooner of it and the body's `timeout` counts.",
            {"type": "integer", "minimum": 1},
            place="header",
        ),
    ),
    events=True,
    answers={200: ExecuteResponse},
    errors=(
        ToolNotFound,
        NotExecutable,
        OutcomeForgotten,
        InvalidArguments,
        Overloaded,
        Cancelled,
        ToolFailed,
        ServerDown,
        ServerUnavailable,
        NodeUnavailable,
        NodeLost,
        BusUnavailable,
        ConnectionLost,
        DeadlineExceeded,
    ),
)

_TIMEOUT_MS = Header.TIMEOUT_MS.lower().encode()

ENVELOPE = 4096
"""Bytes that a body may have around the arguments."""

WATCH_AFTER = 0.05
"""Seconds before one looks whether the caller is still there: most calls are over by then."""


class Execute:
    """Translates a call to the bus and its outcome back; the ASGI application of the hot path.

    It answers errors itself, so that no layer needs to stand around it.
    """

    def __init__(
        self, client: FederationClient, settings: Settings, check_catalog: Callable[[], None]
    ) -> None:
        self._client = client
        self._reader = BodyReader(settings.max_payload + ENVELOPE, settings.max_depth)
        self._timeout = settings.call_timeout
        self._max_timeout = settings.max_call_timeout
        self._check_catalog = check_catalog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST /execute`."""
        events = EventStream(send) if wants_events(scope) else None
        try:
            call = await self._reader.read(Request(scope, receive), execute_decoder)
            timeout = self._timeout_of(call, scope)
            self._check_catalog()
            async with WhileConnected(receive):
                if events is not None:
                    await self._stream(call, timeout, events)
                    return
                tool, result = await self._client.execute_any(
                    call.mcp_name, call.args, call.kwargs, timeout=timeout
                )
        except (FederationError, HTTPException) as error:
            await problem_response(error)(scope, receive, send)
            return
        body = msgspec.json.encode(_response(tool, result))
        await send({"type": "http.response.start", "status": 200, "headers": _json_headers(len(body))})
        await send({"type": "http.response.body", "body": body})

    def _timeout_of(self, call: ExecuteRequest, scope: Scope) -> float:
        header = next((value for name, value in scope["headers"] if name == _TIMEOUT_MS), None)
        asked = [] if call.timeout is None else [call.timeout]
        if header is not None:
            asked.append(seconds_of(header.decode(errors="replace")))
        timeout = min(asked, default=self._timeout)
        if timeout > self._max_timeout:
            raise InvalidRequest(f"the longest timeout here is {self._max_timeout:g} s")
        return timeout

    async def _stream(self, call: ExecuteRequest, timeout: float, events: EventStream) -> None:
        async with events:
            try:
                tool, result = await self._client.execute_any(
                    call.mcp_name, call.args, call.kwargs, timeout=timeout, on_progress=events.progress
                )
            except FederationError as error:
                if not events.begun:
                    raise  # nothing was sent: it is answered with a status of its own
                await events.last("error", problem_response(error).body)
            else:
                await events.last("result", msgspec.json.encode(_response(tool, result)))


def _response(tool: CatalogTool, result: CallResult) -> ExecuteResponse:
    return ExecuteResponse(result=result.value, node=tool.node, tool=tool.name)


def _json_headers(length: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]


class WhileConnected(WhileWatched):
    """A block that is cancelled when the caller hangs up, and then left with `ClientDisconnect`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._begin, asyncio.current_task())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if await self._ended(kind):
            raise ClientDisconnect from None

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
