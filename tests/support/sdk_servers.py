"""Real MCP servers made with the SDK, of revision 2026-07-28 and older, over stdio and over HTTP.

`python sdk_servers.py` serves over stdio; `HttpServer` serves on a port, and can go away and come back.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Annotated, Any, Self

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_federation.node.servers.config import HttpSpec


class Seen:
    """What a server has seen of its clients."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.released = asyncio.Event()
        self.calls = 0


def sdk_server(name: str = "sdk", seen: Seen | None = None) -> MCPServer:
    """A server with tools that answer, wait, fail, and change its list."""
    server: MCPServer = MCPServer(name, version="2.0.0")
    seen = seen or Seen()

    @server.tool()
    async def echo(text: str) -> str:
        """Gives the text back as it came."""
        seen.calls += 1
        return text

    @server.tool()
    async def record(rows: int) -> dict[str, Any]:
        """Gives a structured result with a null in it."""
        return {"rows": rows, "nothing": None}

    @server.tool()
    async def wait() -> str:
        """Does not answer by itself, and notices when nobody waits any more."""
        seen.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.cancelled.set()
            raise
        return "never"

    @server.tool()
    async def hold() -> str:
        """Answers once it is released."""
        seen.started.set()
        await seen.released.wait()
        return "held"

    @server.tool()
    async def fail() -> str:
        """Reports an error of its own."""
        raise ToolError("the disk is full")

    @server.tool()
    async def grow(name: str, context: Context) -> str:
        """Adds a tool of that name to the list, and says so in both ways."""
        server.add_tool(echo, name=name, description="A tool that was not there at the start.")
        await context.notify_tools_changed()
        return name

    add_telling_tools(server, seen)
    return server


def add_telling_tools(server: MCPServer, seen: Seen) -> None:
    """Tools that tell what was seen, or want to be called in a way of their own."""

    @server.tool()
    async def running() -> bool:
        """Tells whether 'wait' was called."""
        return seen.started.is_set()

    @server.tool()
    async def noticed() -> bool:
        """Tells whether a call of 'wait' was cancelled."""
        return seen.cancelled.is_set()

    @server.tool()
    async def steps(to: int, context: Context) -> int:
        """Reports so many steps of progress, and then gives their number."""
        for step in range(to):
            await context.report_progress(step, to, f"step {step}")
        return to

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
    async def second_time() -> int:
        """Does not answer the first time, and the second time gives the number of calls."""
        seen.calls += 1
        seen.started.set()
        if seen.calls == 1:
            await asyncio.Event().wait()
        return seen.calls

    @server.tool()
    async def where(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        """Wants its argument in a header too."""
        return region


class HttpServer:
    """Serves an MCP server over streamable HTTP, or over SSE, on a port that stays the same.

    `legacy` serves no revision newer than 2025-11-25. `refusals` are statuses with which the next calls of
    a tool are refused; `forget` ends all sessions; with a `token` only who bears it is served.
    """

    def __init__(
        self, server: MCPServer | None = None, *, transport: str = "http", legacy: bool = False
    ) -> None:
        self.server = server or sdk_server()
        self.legacy = legacy
        self.refusals: list[int] = []
        self.token = ""
        self._sessions: set[bytes] = set()
        self._forgotten: set[bytes] = set()
        self.transport = transport
        self.port = 0
        self._uvicorn: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if self.transport == 'sse' else 'mcp'}"

    @property
    def spec(self) -> HttpSpec:
        return HttpSpec(self.url, transport="sse" if self.transport == "sse" else "http")

    async def start(self) -> None:
        app: ASGIApp = self.server.sse_app() if self.transport == "sse" else self.server.streamable_http_app()
        listening = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._gate(app),
            log_config=None,
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=0,
            access_log=False,
        )
        self._uvicorn = _Uvicorn(config)
        self._task = asyncio.create_task(self._uvicorn.serve(sockets=[listening]))
        await self._uvicorn.serving.wait()

    def forget(self) -> None:
        self._forgotten |= self._sessions

    def _gate(self, app: ASGIApp) -> ASGIApp:
        async def gated(scope: Scope, receive: Receive, send: Send) -> None:
            status = self._refusal(scope)
            if status:
                await PlainTextResponse("refused", status)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return gated

    def _refusal(self, scope: Scope) -> int:
        if scope["type"] != "http":
            return 0
        headers = dict(scope["headers"])
        if self.token and headers.get(b"authorization") != f"Bearer {self.token}".encode():
            return 401
        session = headers.get(b"mcp-session-id", b"")
        if session:
            self._sessions.add(session)
        if session in self._forgotten:
            return 404
        if self.legacy and headers.get(b"mcp-protocol-version") == b"2026-07-28":
            return 400
        is_call = headers.get(b"mcp-method") == b"tools/call" or (self.legacy and session)
        return self.refusals.pop(0) if is_call and self.refusals else 0

    async def stop(self) -> None:
        if self._uvicorn is not None and self._task is not None:
            self._uvicorn.should_exit = True
            with suppress(asyncio.CancelledError):
                await self._task
            self._uvicorn = self._task = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Uvicorn(uvicorn.Server):
    """Serves inside a test's event loop, and leaves its signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


if __name__ == "__main__":
    sdk_server().run("stdio")
