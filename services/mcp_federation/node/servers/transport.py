"""Connects to MCP servers of every kind, and tells when the connection under one has ended."""

import os
import shutil
import sysconfig
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client.session import MessageHandlerFnT
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_federation.node.servers.calls.calling import Calls
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.calls.http import CONNECT_TIMEOUT, ENVELOPE, HttpCalls
from mcp_federation.node.servers.calls.python import PythonCalls
from mcp_federation.node.servers.calls.results import Results
from mcp_federation.node.servers.calls.sdk import HttpClient, SdkCalls, Sent, watch_sent
from mcp_federation.node.servers.calls.stdio import Pipe, StdioCalls
from mcp_federation.node.servers.calls.wire import CLIENT_INFO, Requests
from mcp_federation.node.servers.child import Child
from mcp_federation.node.servers.config import HttpSpec, StdioSpec
from mcp_federation.node.servers.faults import Ended, first_of
from mcp_federation.node.servers.from_files import read_values
from mcp_federation.node.servers.sse import sse_transport
from mcp_federation.node.servers.stderr_tail import StderrTail
from mcp_federation.node.servers.toolboxes import ToolboxSpec

READ_TIMEOUT = 300.0


class _WatchedStream:
    """A read stream that calls back when it ends; everything else is the stream's own."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._on_end()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        self._on_end()
        return await self._stream.__aexit__(*exc)


class Connection(NamedTuple):
    """A connected server: the SDK's client, its handshake done, and what calls its tools."""

    client: Client
    calls: Calls


@asynccontextmanager
async def open_connection(
    name: str,
    spec: StdioSpec | HttpSpec | ToolboxSpec,
    declared: Declared,
    *,
    on_end: Callable[[], None],
    stderr: StderrTail,
    on_message: MessageHandlerFnT,
    max_concurrency: int,
    max_payload: int,
) -> AsyncIterator[Connection]:
    """Connect to the server called `name`; `on_end` is called when the connection ends.

    Enter and leave it in one task. Raises what the transport and the SDK raise.
    """
    async with AsyncExitStack() as stack:
        results = Results(declared, max_payload)
        pipe = Pipe()
        server: Any
        if isinstance(spec, ToolboxSpec):
            server = spec.server
        elif isinstance(spec, StdioSpec):
            child = await stack.enter_async_context(_stdio(spec, pipe, stderr, max_payload + ENVELOPE))
            server = _watched(pipe.streams(child), on_end)
        else:
            headers = read_values(spec.headers)
            server = _watched(await _http(spec, headers, stack, max_payload + ENVELOPE), on_end)
        client = await stack.enter_async_context(_client(server, on_message))
        calls: Calls
        if isinstance(spec, ToolboxSpec):
            calls = PythonCalls(name, spec.server, client, results, max_concurrency)
        elif isinstance(spec, StdioSpec):
            calls = StdioCalls(name, pipe, child, Requests(client.protocol_version), results)
        elif spec.transport == "http" and client.protocol_version in MODERN_PROTOCOL_VERSIONS:
            calls = HttpCalls(name, spec.url, headers, client.protocol_version, declared, results)
        else:
            calls = SdkCalls(name, client, results)
        try:
            yield Connection(client, calls)
        finally:
            with anyio.CancelScope(shield=True):
                await calls.close()


@asynccontextmanager
async def _client(server: Any, on_message: MessageHandlerFnT) -> AsyncIterator[Client]:
    # The SDK's response cache would answer a poll for changes with the old list.
    client = Client(server, message_handler=on_message, client_info=CLIENT_INFO, cache=None)
    # What fails in the handshake fails it as a whole: the SDK would take it for an older revision.
    sent = Sent(apart=False)
    async with AsyncExitStack() as stack:
        try:
            with watch_sent(sent):
                await stack.enter_async_context(client)
        except Exception as error:
            if sent.statuses and isinstance(first_of(error), MCPError):
                raise Ended(f"it answers with HTTP status {sent.statuses[-1]}") from error
            raise
        yield client


@asynccontextmanager
async def _watched(transport: Any, on_end: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
    async with transport as (reading, writing):
        yield _WatchedStream(reading, on_end), writing


@asynccontextmanager
async def _stdio(spec: StdioSpec, pipe: Pipe, stderr: StderrTail, max_line: int) -> AsyncIterator[Child]:
    if spec.cwd is not None and not os.path.isdir(spec.cwd):  # noqa: ASYNC240, PTH112 - one stat of a local path
        raise Ended(f"its working directory {spec.cwd} is not there")
    env = {**get_default_environment(), "PATH": os.environ.get("PATH", os.defpath)}
    env |= read_values(spec.env)
    # Servers installed beside the federation are found without an activated environment.
    env["PATH"] += os.pathsep + sysconfig.get_path("scripts")
    command = _resolved(spec.command, env["PATH"], spec.cwd)
    child = Child(pipe.on_line, pipe.on_too_long, pipe.on_end, max_line)
    await child.start([command, *spec.args], env, spec.cwd, await stderr.open())
    try:
        stderr.child_started()
        yield child
    finally:
        with anyio.CancelScope(shield=True):
            await child.stop()


def _resolved(command: str, path: str, cwd: str | None) -> str:
    # Looked up here: event loops differ in whether the child's PATH or ours counts, and in whether the
    # error names what was not found, as that of `stat` does.
    found = shutil.which(command, path=path)
    if found is None:
        Path(cwd or "", command).stat()
    return found or command


async def _http(spec: HttpSpec, headers: dict[str, str], stack: AsyncExitStack, max_answer: int) -> Any:
    timeout = httpx2.Timeout(CONNECT_TIMEOUT, read=READ_TIMEOUT)
    http = await stack.enter_async_context(HttpClient(max_body=max_answer, headers=headers, timeout=timeout))
    if spec.transport == "sse":
        return sse_transport(spec.url, http, max_answer)
    return streamable_http_client(spec.url, http_client=http, max_sse_event_size=max_answer)
