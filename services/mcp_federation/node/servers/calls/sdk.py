"""Calls through the SDK's client: for older revisions, and for what only its own machinery gives a tool."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp_types import INVALID_REQUEST, PARSE_ERROR, InputRequiredResult
from pydantic import ValidationError

from mcp_federation.contract.messages import Progress
from mcp_federation.contract.text import PIECE
from mcp_federation.errors import ToolFailed
from mcp_federation.node.servers.calls.calling import (
    Disconnected,
    OnProgress,
    Outcome,
    OwnTasks,
    replaced,
    tell,
)
from mcp_federation.node.servers.calls.refused import refused
from mcp_federation.node.servers.calls.results import BrokenContract, Results
from mcp_federation.node.servers.faults import call_error, is_lost

_OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are about the body as it came, which is decoded here."""


class Sent:
    """What HTTP itself tells of the requests of one task, which the SDK does not.

    Where they are `apart`, one that fails is answered for alone. The SDK would end its whole connection.
    """

    def __init__(self, *, apart: bool = True) -> None:
        self.apart = apart
        self.statuses: list[int] = []
        """Those that refused a request."""

        self.lost: httpx2.RequestError | None = None
        """Why one got no answer, or half of one."""

        self.too_large = False
        """Whether an answer was given up as it was over the bound."""

    @property
    def unreachable(self) -> bool:
        """Whether there was nobody to send one to."""
        return isinstance(self.lost, httpx2.ConnectError | httpx2.ConnectTimeout)


_sent: ContextVar[Sent | None] = ContextVar("sent", default=None)
"""Where that is put: the SDK sends each request in the context of who asks for it."""


@contextmanager
def watch_sent(sent: Sent) -> Iterator[None]:
    """Has it told what becomes of what this task sends within."""
    token = _sent.set(sent)
    try:
        yield
    finally:
        _sent.reset(token)


class HttpClient(httpx2.AsyncClient):
    """The SDK's HTTP client, which notes in `Sent` what became of a request, and bounds the answers."""

    def __init__(self, *, max_body: int, **options: Any) -> None:
        super().__init__(**options)
        self._max_body = max_body

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """As the base class does; but one that stands apart and gets lost is a 502, as an answer over the
        bound is."""
        sent = _sent.get()
        try:
            response = await _read_json(await super().send(request, **options), self._max_body)
        except httpx2.RequestError as error:
            # A GET asks again for the answer to a POST that was taken.
            if sent is None or not sent.apart or request.method != "POST":
                raise
            sent.lost = error
            return httpx2.Response(HTTPStatus.BAD_GATEWAY, request=request)
        if response is None:
            if sent is not None:
                sent.too_large = True
            return httpx2.Response(HTTPStatus.BAD_GATEWAY, request=request)
        if sent is not None and response.status_code >= HTTPStatus.BAD_REQUEST:
            sent.statuses.append(response.status_code)
        return response


async def _read_json(response: httpx2.Response, limit: int) -> httpx2.Response | None:
    """An answer that is no stream, read here, where its loss can be told; None where it is over the bound."""
    if not response.headers.get("content-type", "").lower().startswith("application/json"):
        return response
    body = bytearray()
    try:
        async for piece in response.aiter_bytes(PIECE):
            body += piece
            if len(body) > limit:
                return None
    finally:
        await response.aclose()
    headers = {key: value for key, value in response.headers.items() if key not in _OF_THE_WIRE}
    return httpx2.Response(
        response.status_code, headers=headers, content=bytes(body), request=response.request
    )


class SdkCalls:
    """Calls tools by the SDK's client session."""

    def __init__(self, server: str, client: Client, results: Results) -> None:
        self._server = server
        self._client = client
        self._results = results
        self._tasks = OwnTasks()

    async def call(
        self, name: str, arguments: dict[str, Any], timeout: float, on_progress: OnProgress | None
    ) -> Outcome:
        """See `Calls`."""
        if self._tasks.closed:
            raise replaced(self._server)
        told = Told(on_progress) if on_progress else None
        sent = Sent()
        try:
            return await self._tasks.run(self.work(name, arguments, told, sent), timeout)
        except Disconnected as error:
            if not sent.unreachable:
                raise
            # Often the first to notice is not the request, but the connection as a whole.
            message = f"the MCP server {self._server!r} cannot be reached"
            raise Disconnected(message, fault=error.fault, ran=False) from error
        finally:
            if told is not None:
                told.end()

    async def close(self) -> None:
        """See `Calls`."""
        await self._tasks.close()

    async def work(
        self, name: str, arguments: dict[str, Any], told: "Told | None", sent: "Sent | None" = None
    ) -> Outcome:
        """The call itself, without a deadline."""
        sent = sent or Sent()
        try:
            with watch_sent(sent):
                result = await self._client.session.call_tool(
                    name, arguments, progress_callback=told, allow_input_required=True
                )
        except MCPError as error:
            raise self._told(error, name, sent) from error
        except (httpx2.HTTPError, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            fault = f"the connection failed: {type(error).__name__}"
            message = f"the connection to the MCP server {self._server!r} failed"
            raise Disconnected(message, fault=fault) from error
        except (ValidationError, RuntimeError) as error:
            raise BrokenContract(str(error)) from error
        if isinstance(result, InputRequiredResult):
            raise ToolFailed("the tool asks for more input, which callers here cannot give")
        answer = result.model_dump_json(by_alias=True, exclude_none=True).encode()
        return self._results.bounded(answer, result.is_error)

    def _told(self, error: MCPError, tool: str, sent: Sent) -> Exception:
        if sent.too_large:
            return self._results.too_large()
        if sent.lost is not None:
            return Disconnected(f"the connection to the MCP server {self._server!r} failed")
        if _is_too_large(error):
            return self._results.too_large()
        if is_lost(error):
            return Disconnected(f"the MCP server {self._server!r} went away during the call")
        if sent.statuses:
            return refused(sent.statuses[-1], self._server, session="session" in error.message.lower())
        if error.code == PARSE_ERROR and error.message.startswith("Failed to parse "):
            return BrokenContract(error.message)  # the SDK's own words, with the model that it tried
        if error.code == INVALID_REQUEST:
            # Our requests are valid; what is not may be the state of the connection.
            return Disconnected(f"the MCP server {self._server!r} no longer takes calls on this connection")
        return call_error(error, self._server, tool)


def _is_too_large(error: MCPError) -> bool:
    """Whether the SDK gave an answer up that is over the bound of an event; only its text tells."""
    return is_lost(error) and "Server-sent event exceeded the" in error.message


class Told:
    """The SDK's progress callback; behind the end of the call nothing is told."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress: OnProgress | None = on_progress

    async def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tell of it."""
        if self._on_progress is not None:
            tell(self._on_progress, Progress(progress=progress, total=total, message=message))

    def end(self) -> None:
        """The call is over, though a tool that was given up may go on."""
        self._on_progress = None
