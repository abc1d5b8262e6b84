"""One MCP server under supervision: started, listed, watched, called, and started again when it falls.

Whatever it does — not start, crash, hang, answer nonsense — costs its own tools only.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import anyio
import httpx2
import mcp_types
from mcp import Client, MCPError
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.dispatcher import ProgressFnT
from pydantic import ValidationError

from mcp_federation.bus.handling import stop_task
from mcp_federation.contract.messages import Progress, ServerState
from mcp_federation.errors import DeadlineExceeded, ServerUnavailable, ToolFailed
from mcp_federation.logs import get_logger
from mcp_federation.node.config import BrokenSpec, Spec, StdioSpec
from mcp_federation.node.faults import MAX_REASON, Ended, call_error, reason_of
from mcp_federation.node.stderr_tail import StderrTail
from mcp_federation.node.toolboxes import ToolboxSpec
from mcp_federation.node.tools import LocalTool, to_local_tools
from mcp_federation.node.transport import open_client

log = get_logger("node")

BACKOFF_FIRST = 0.5
BACKOFF_MAX = 30.0
HEALTHY_AFTER = 30.0
"""Seconds of good health after which a server's backoff begins anew."""

NONSENSE_PATIENCE = 5.0
"""Seconds that a server which writes nonsense has left to start: it may have been a banner."""

STOP_TIMEOUT = 8.0
LIST_TIMEOUT = 20.0
LISTEN_PAUSE = 0.5
MAX_PAGES = 1000
MAX_TOOLS = 10_000

_WHY_NOT = {"starting": "is starting", "stopped": "is stopping"}


OnProgress = Callable[[Progress], None]


class Outcome(NamedTuple):
    """The JSON of MCP's `CallToolResult`, and whether it reports an error."""

    result: bytes
    is_error: bool


class SupervisedServer:
    """Owns one server. `on_change` is called whenever its tools or its state changed."""

    def __init__(
        self,
        name: str,
        spec: Spec | ToolboxSpec,
        *,
        on_change: Callable[["SupervisedServer"], None],
        start_timeout: float = 30.0,
        poll_interval: float = 30.0,
    ) -> None:
        self.name = name
        self._spec = spec
        self._on_change = on_change
        self._start_timeout = start_timeout
        self._poll_interval = poll_interval
        self.tools: list[LocalTool] = []
        self.unfit: dict[str, str] = {}
        self._client: Client | None = None
        self._state = ServerState(name=name, state="starting")
        self._settled = asyncio.Event()
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._fault = ""
        self._nonsense = ""
        self._scope: anyio.CancelScope | None = None
        self._task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Outcome]] = set()

    @property
    def state(self) -> ServerState:
        """How it does."""
        return self._state

    def start(self) -> None:
        """Start it, and keep it running."""
        if isinstance(self._spec, BrokenSpec):
            reason = reason_of(Ended(self._spec.reason))
            log.error("server_failed", server=self.name, reason=reason)
            self._set_state("failed", reason)
            self._settled.set()
            return
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def settled(self) -> None:
        """Wait until it is ready, or has failed once."""
        await self._settled.wait()

    async def stop(self) -> None:
        """Stop it, and its process."""
        self._stop.set()
        if self._scope is not None:
            self._scope.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT)
            await stop_task(self._task)
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=STOP_TIMEOUT)
        self._settled.set()
        self._set_state("stopped", "")

    async def call(
        self,
        remote_name: str,
        arguments: dict[str, Any],
        timeout: float,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        """Call a tool; what it does beyond `timeout` seconds nobody waits for.

        The server is asked for progress only where `on_progress` takes it.

        Raises:
            ServerUnavailable, ToolNotFound, InvalidArguments, ToolFailed, DeadlineExceeded.
        """
        client = self._client
        if client is None:
            # The reason is in the presence; it may say more than a caller should know.
            what = _WHY_NOT.get(self._state.state, "failed, and is started anew")
            raise ServerUnavailable(f"the MCP server {self.name!r} {what}")
        # A task of its own: a toolbox's thread, or a pipe that nobody reads, does not heed a cancellation.
        task = asyncio.get_running_loop().create_task(self._call(client, remote_name, arguments, on_progress))
        self._calls.add(task)
        task.add_done_callback(self._call_done)
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            raise DeadlineExceeded(f"the tool did not answer within {timeout:g} s")
        return task.result()

    async def _call(
        self, client: Client, remote_name: str, arguments: dict[str, Any], on_progress: OnProgress | None
    ) -> Outcome:
        callback = _progress_callback(on_progress) if on_progress else None
        try:
            result = await client.call_tool(remote_name, arguments, progress_callback=callback)
        except MCPError as error:
            if error.code in (mcp_types.CONNECTION_CLOSED, mcp_types.INVALID_REQUEST):
                self._wake.set()  # to see whether it is still there
            raise call_error(error, self.name, remote_name) from error
        except (httpx2.HTTPError, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self._end(f"the connection failed: {type(error).__name__}")
            raise ServerUnavailable(f"the connection to the MCP server {self.name!r} failed") from error
        except (ValidationError, RuntimeError) as error:
            log.warn("server_nonsense", server=self.name, tool=remote_name, reason=str(error)[:MAX_REASON])
            raise ToolFailed("the MCP server answered with a result that breaks its own contract") from error
        except SystemExit as error:
            # Of a toolbox, in our own process: it would end the node.
            log.warn("tool_exited", server=self.name, tool=remote_name)
            raise ToolFailed("the tool tried to end its process") from error
        return Outcome(result.model_dump_json(by_alias=True, exclude_none=True).encode(), result.is_error)

    def _call_done(self, task: asyncio.Task[Outcome]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting any more

    async def _run(self) -> None:
        pause = BACKOFF_FIRST
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            began = loop.time()
            reason = await self._session()
            self._client = None
            if self._stop.is_set():
                return
            if loop.time() - began > HEALTHY_AFTER:
                pause = BACKOFF_FIRST
            log.error("server_failed", server=self.name, reason=reason, retry_in_seconds=round(pause, 1))
            self._set_state("failed", reason, restarts=self._state.restarts + 1)
            self._settled.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                    await self._stop.wait()
            pause = min(pause * 2, BACKOFF_MAX)

    async def _session(self) -> str:
        """Run the server once, until it ends; why it did."""
        self._wake.clear()
        self._fault = self._nonsense = ""
        stderr = StderrTail(self.name)
        try:
            await self._serve(stderr)
        except BaseExceptionGroup as group:
            if group.split((Exception,))[1] is not None:  # a cancellation or an exit is not ours to keep
                raise
            return await self._reason(group, stderr)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a server or the SDK does
            return await self._reason(error, stderr)
        finally:
            stderr.close()
        return self._fault

    async def _reason(self, error: BaseException, stderr: StderrTail) -> str:
        await stderr.drain()
        return reason_of(error, self._nonsense, stderr.last)

    async def _serve(self, stderr: StderrTail) -> None:
        if isinstance(self._spec, BrokenSpec):
            raise Ended(self._spec.reason)
        with anyio.fail_after(self._start_timeout) as self._scope:
            async with open_client(
                self._spec, on_end=self._end, stderr=stderr, on_message=self._on_message
            ) as client:
                listed = await self._list(client)
                self._scope.deadline = float("inf")
                self._client = client
                self._take(client, listed)
                async with anyio.create_task_group() as group:
                    group.start_soon(self._listen, client)
                    try:
                        await self._watch(client)
                    finally:
                        self._client = None
                        group.cancel_scope.cancel()

    async def _watch(self, client: Client) -> None:
        """Look at the list again on every change and every poll, until the server or we end."""
        while True:
            with anyio.move_on_after(self._poll_interval):
                await self._wake.wait()
            self._wake.clear()
            if self._fault:
                raise Ended(self._fault)
            try:
                with anyio.fail_after(LIST_TIMEOUT):
                    self._take(client, await self._list(client))
            except TimeoutError:
                raise Ended(f"it did not list its tools within {LIST_TIMEOUT:g} s") from None

    def _end(self, fault: str = "it ended") -> None:
        """The connection is over: wake whoever watches it."""
        self._fault = self._fault or fault
        self._wake.set()

    async def _listen(self, client: Client) -> None:
        """Be told of changes by servers of the 2026-07-28 revision; older ones notify by themselves."""
        pause = LISTEN_PAUSE
        while True:
            began = anyio.current_time()
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    self._wake.set()  # nothing was told of what changed before
                    async for _ in changes:
                        self._wake.set()
            except (ListenNotSupportedError, MCPError):
                return  # the poll remains
            except SubscriptionLost:
                self._wake.set()
            # Where subscriptions never last, looking at the list becomes a poll like any other.
            lasted = anyio.current_time() - began > self._poll_interval
            pause = LISTEN_PAUSE if lasted else min(2 * pause, self._poll_interval)
            await anyio.sleep(pause)

    async def _on_message(self, message: Any) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._wake.set()
        elif isinstance(message, Exception) and not self._nonsense:
            where = "to stdout " if isinstance(self._spec, StdioSpec) else ""
            self._nonsense = f"it writes {where}what is not MCP"
            log.warn("server_nonsense", server=self.name, reason=self._nonsense)
            if self._client is None and self._scope is not None:
                soon = anyio.current_time() + NONSENSE_PATIENCE
                self._scope.deadline = min(self._scope.deadline, soon)

    async def _list(self, client: Client) -> list[mcp_types.Tool]:
        if client.server_capabilities.tools is None:
            return []
        tools: list[mcp_types.Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            if len(tools) > MAX_TOOLS:
                raise Ended(f"it lists more than {MAX_TOOLS} tools")
            cursor = page.next_cursor
            if cursor is None:
                return tools
        raise Ended(f"its list has more than {MAX_PAGES} pages")

    def _take(self, client: Client, listed: list[mcp_types.Tool]) -> None:
        info = client.server_info
        tools, unfit = to_local_tools(
            self.name,
            listed,
            version=info.version if info else "",
            only_tool_is_server=isinstance(self._spec, ToolboxSpec),
        )
        for name, reason in unfit.items():
            if name not in self.unfit:
                log.warn("tool_unfit", server=self.name, tool=name, reason=reason)
        changed = (tools, unfit) != (self.tools, self.unfit) or self._state.state != "ready"
        self.tools, self.unfit = tools, unfit
        if changed:
            log.info("server_ready", server=self.name, tools=len(tools))
            self._set_state("ready", "")
        self._settled.set()

    def _set_state(self, state: Any, reason: str, restarts: int | None = None) -> None:
        self._state = ServerState(
            name=self.name,
            state=state,
            reason=reason,
            tools=len(self.tools) if state == "ready" else 0,
            restarts=self._state.restarts if restarts is None else restarts,
        )
        self._on_change(self)


def _progress_callback(on_progress: OnProgress) -> ProgressFnT:
    async def callback(progress: float, total: float | None = None, message: str | None = None) -> None:
        on_progress(Progress(progress=progress, total=total, message=message))

    return callback
