"""Calls of Python toolboxes, which run in the node's own process.

A tool that asks for no `Context` is called as the SDK's server calls it, without the SDK's client and the
messages between the two. One that does gets its context, and with it progress, from the SDK's own machinery.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from mcp import Client, MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import SERVER_INFO_META_KEY, CallToolResult, TextContent

from mcp_federation.errors import Overloaded, ServerUnavailable, ToolFailed
from mcp_federation.logs import get_logger
from mcp_federation.node.servers.calls.calling import OnProgress, Outcome, OwnTasks, too_late
from mcp_federation.node.servers.calls.prepared import Converted, PreparedTool, returns_texts
from mcp_federation.node.servers.calls.results import BrokenContract, Results
from mcp_federation.node.servers.calls.sdk import SdkCalls, Told
from mcp_federation.node.servers.calls.steps import Steps
from mcp_federation.node.servers.faults import call_error

log = get_logger("node")

_Run = Callable[[], Coroutine[Any, Any, Outcome]]


class PythonCalls:
    """Calls the tools of one `MCPServer`; `max_threads` bounds the threads of calls that were given up."""

    def __init__(
        self, name: str, server: MCPServer[Any], client: Client, results: Results, max_threads: int
    ) -> None:
        self._name = name
        self._server = server
        self._results = results
        self._max_threads = max_threads
        self._sdk = SdkCalls(name, client, results)
        self._tasks = OwnTasks()
        self._context: Context[Any, Any] = Context(mcp_server=server)
        self._is_plain = _is_plain(server)
        self._prepared: dict[str, tuple[Tool, PreparedTool | None]] = {}
        self._waits: set[str] = set()
        self._timeouts: set[asyncio.Timeout] = set()
        self._closed = False
        info = client.server_info
        self._info = info.model_dump(by_alias=True, mode="json", exclude_none=True) if info else {}
        self._stamp = b'{"_meta":%b,' % msgspec.json.encode({SERVER_INFO_META_KEY: self._info})
        # The SDK runs every tool that is not async in one pool of 40; here each server has its own bound.
        anyio.to_thread.current_default_thread_limiter().total_tokens = math.inf

    async def call(
        self, name: str, arguments: dict[str, Any], timeout: float, on_progress: OnProgress | None
    ) -> Outcome:
        """See `Calls`."""
        # The public API tells neither whether a tool is async nor whether it asks for a context.
        tool = self._server._tool_manager.get_tool(name)
        if tool is None or not self._is_plain or tool.context_kwarg is not None or tool.resolved_params:
            told = Told(on_progress) if on_progress else None
            try:
                return await self._apart(name, tool, partial(self._sdk.work, name, arguments, told), timeout)
            finally:
                if told is not None:
                    told.end()
        if not tool.is_async or name in self._waits:
            return await self._apart(name, tool, partial(self._run, tool, arguments), timeout)
        return await self._here(name, partial(self._run, tool, arguments), timeout)

    async def close(self) -> None:
        """See `Calls`."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for timeout in self._timeouts:
            timeout.reschedule(now)
        await self._tasks.close()

    def _prepare(self, tool: Tool) -> PreparedTool | None:
        known = self._prepared.get(tool.name)
        if known is None or known[0] is not tool:
            is_plain = self._results.expects(tool.name, tool.output_schema) and returns_texts(tool)
            known = tool, PreparedTool(tool, self._json) if is_plain else None
            self._prepared[tool.name] = known
        return known[1]

    async def _apart(self, name: str, tool: Tool | None, run: _Run, timeout: float) -> Outcome:
        """Run it in a thread or a task of its own."""
        if tool is not None and not tool.is_async:
            return await self._in_thread(name, run, timeout)
        return await self._tasks.run(self._guarded(name, run), timeout)

    async def _here(self, name: str, run: _Run, timeout: float) -> Outcome:
        """Run it in the caller's task: most tools that are no more than Python never wait."""
        steps = Steps(self._guarded(name, run), self._leave)
        steps.start()
        if not steps.waits:
            return steps.result
        # From now on it gets a task of its own, in which it can clean up when its caller has gone.
        self._waits.add(name)
        try:
            async with asyncio.timeout(timeout) as deadline:
                self._timeouts.add(deadline)
                try:
                    return await steps
                finally:
                    self._timeouts.discard(deadline)
        except TimeoutError:
            if self._closed:
                raise ServerUnavailable(f"the MCP server {self._name!r} is stopping") from None
            raise too_late(timeout) from None

    def _leave(self, left: Steps[Outcome]) -> None:
        self._tasks.keep(left.finish())

    async def _in_thread(self, name: str, run: _Run, timeout: float) -> Outcome:
        """Run what blocks a thread, which nothing can end: it may ask whether it was cancelled."""
        if self._tasks.abandoned >= self._max_threads:
            raise Overloaded(f"calls that were given up still hold all threads of {self._name!r}")
        scope = anyio.CancelScope()

        async def within() -> Outcome:
            with scope:
                return await self._guarded(name, run)
            raise asyncio.CancelledError

        return await self._tasks.run(within(), timeout, lambda _: scope.cancel())

    async def _run(self, tool: Tool, arguments: dict[str, Any]) -> Outcome:
        quick = self._prepare(tool)
        result: Converted | bytes
        try:
            if quick is not None:
                result = await quick.run(arguments, self._context)
            else:
                result = await tool.run(arguments, self._context, convert_result=True)
        except ToolError as error:
            if isinstance(error, UnexpectedToolError):
                log.exception("tool_crashed", server=self._name, tool=tool.name)
            result = CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)
        if isinstance(result, bytes):
            return self._results.bounded(result)
        return self._results.read(tool.name, self._json(result))

    def _json(self, result: Converted) -> bytes:
        """The result as the SDK's server puts it on the wire."""
        if result.meta is not None:
            meta = {SERVER_INFO_META_KEY: self._info, **result.meta}
            return _dump(result.model_copy(update={"meta": meta}))
        return self._stamp + _dump(result)[1:]

    async def _guarded(self, name: str, run: _Run) -> Outcome:
        """Whatever a tool raises costs its own call only."""
        try:
            return await run()
        except MCPError as error:
            raise call_error(error, self._name, name) from error
        except (SystemExit, KeyboardInterrupt, BaseExceptionGroup) as error:
            # In our own process: it would end the node.
            log.warn("tool_exited", server=self._name, tool=name)
            raise ToolFailed("the tool tried to end its process") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ToolFailed("the tool cancelled itself") from None


def _is_plain(server: MCPServer[Any]) -> bool:
    """Whether nothing of the server's own stands between a call and its tool."""
    if type(server) is not MCPServer:
        return False
    handler = server._lowlevel_server.get_request_handler("tools/call")
    usual = [type(each) for each in MCPServer("plain").middleware]
    # An extension that intercepts calls replaces the handler.
    intercepted = handler is None or handler.handler != server._handle_call_tool
    return not intercepted and [type(each) for each in server.middleware] == usual


def _dump(result: Converted) -> bytes:
    try:
        return result.model_dump_json(by_alias=True, exclude_none=True).encode()
    except ValueError as error:
        raise BrokenContract(f"the result is not JSON: {error}") from error
