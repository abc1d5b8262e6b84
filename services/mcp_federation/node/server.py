"""One MCP server under supervision: started, listed, watched, called, and started again when it falls.

Whatever it does — not start, crash, hang, answer nonsense — costs its own tools only.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import mcp_types
from mcp import Client, MCPError
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

from mcp_federation.bus.handling import stop_task
from mcp_federation.contract.messages import ServerState
from mcp_federation.errors import ServerUnavailable
from mcp_federation.logs import get_logger
from mcp_federation.node.calls.calling import OnProgress, Outcome
from mcp_federation.node.calls.declared import Declared
from mcp_federation.node.calls.slots import Slots
from mcp_federation.node.config import BrokenSpec, HttpSpec, Spec, StdioSpec
from mcp_federation.node.faults import Ended, reason_of
from mcp_federation.node.link import Link
from mcp_federation.node.listing import list_tools
from mcp_federation.node.stderr_tail import StderrTail
from mcp_federation.node.toolboxes import ToolboxSpec
from mcp_federation.node.tools import LocalTool, to_local_tools
from mcp_federation.node.transport import open_connection

log = get_logger("node")

BACKOFF_FIRST = 0.5
BACKOFF_MAX = 30.0
BACKOFF_MAX_HTTP = 5.0
"""To ask a server on the network again costs less than to start a process."""

HEALTHY_AFTER = 30.0
"""Seconds of good health after which a server's backoff begins anew."""

NONSENSE_PATIENCE = 5.0
"""Seconds that a server which writes nonsense has left to start: it may have been a banner."""

STOP_TIMEOUT = 8.0
LIST_TIMEOUT = 20.0
LISTEN_PAUSE = 0.5


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
        max_concurrency: int = 64,
        max_payload: int = 64 * 1024 * 1024,
    ) -> None:
        self.name = name
        self._spec = spec
        self._on_change = on_change
        self._start_timeout = start_timeout
        self._poll_interval = poll_interval
        self.tools: list[LocalTool] = []
        self.unfit: dict[str, str] = {}
        limit = getattr(spec, "max_concurrency", None) or max_concurrency
        self._slots = Slots(name, limit)
        self._max_payload = max_payload
        self._declared = Declared()
        self._link = Link(name, self._declared, self._doubt)
        self._state = ServerState(name=name, state="starting")
        self._settled = asyncio.Event()
        self._listed = asyncio.Event()
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._fault = ""
        self._nonsense = ""
        self._scope: anyio.CancelScope | None = None
        self._task: asyncio.Task[None] | None = None

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

    async def recover(self, timeout: float) -> None:
        """Have it tried again now, where it is down.

        Raises:
            ServerDown: it is not back in time.
        """
        await self._link.connected(timeout)

    async def look_again(self, timeout: float) -> None:
        """Have its list read anew.

        Raises:
            ServerUnavailable: it is not there, or does not list within `timeout` seconds.
        """
        listed = self._listed
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                await listed.wait()
        except TimeoutError:
            raise ServerUnavailable(f"it did not list its tools within {timeout:g} s") from None
        if self.state.state != "ready":
            raise ServerUnavailable(f"it is {self.state.state}")

    async def stop(self) -> None:
        """Stop it, and its process."""
        self._stop.set()
        self._link.wanted.set()
        if self._scope is not None:
            self._scope.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT)
            await stop_task(self._task)
        self._settled.set()
        self._set_state("stopped", "")

    async def call(
        self,
        remote_name: str,
        arguments: dict[str, Any],
        timeout: float,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        """Call a tool within `timeout` seconds, the wait for a free slot included.

        The server is asked for progress only where `on_progress` takes it. A connection that broke is
        renewed under the call where the tool surely did not run, or may run twice.

        Raises:
            Overloaded, ServerDown, ServerUnavailable, ToolNotFound, InvalidArguments, ToolFailed,
            DeadlineExceeded.
        """
        began = time.monotonic()
        calls = self._link.calls or await self._link.connected(timeout)
        await self._slots.take(timeout)
        try:
            return await self._link.call(calls, remote_name, arguments, began + timeout, on_progress)
        finally:
            self._slots.give_back(time.monotonic() - began)

    async def _run(self) -> None:
        pause = BACKOFF_FIRST
        longest = min(BACKOFF_MAX, BACKOFF_MAX_HTTP) if isinstance(self._spec, HttpSpec) else BACKOFF_MAX
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            began = loop.time()
            self._link.wanted.clear()
            reason = await self._session()
            self._link.calls = None
            if self._stop.is_set():
                return
            if loop.time() - began > HEALTHY_AFTER:
                pause = BACKOFF_FIRST
            # While it stays down for one reason that is told once; the presence has it all the time.
            known = (self._state.state, self._state.reason) == ("failed", reason)
            tell = log.debug if known else log.error
            tell("server_failed", server=self.name, reason=reason, retry_in_seconds=round(pause, 1))
            self._set_state("failed", reason, restarts=self._state.restarts + 1)
            self._settled.set()
            await self._pause(pause * random.uniform(0.8, 1.2), began)  # noqa: S311 - jitter
            pause = min(pause * 2, longest)

    async def _pause(self, seconds: float, began: float) -> None:
        """Pause so long, or until a call wants the server: not sooner after it began than the least pause."""
        least = min(seconds, max(0.0, began + BACKOFF_FIRST - asyncio.get_running_loop().time()))
        for event, left in ((self._stop, least), (self._link.wanted, seconds - least)):
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await event.wait()

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
            async with open_connection(
                self.name,
                self._spec,
                self._declared,
                on_end=self._end,
                stderr=stderr,
                on_message=self._on_message,
                max_concurrency=self._slots.limit,
                max_payload=self._max_payload,
            ) as (client, calls):
                listed = await list_tools(client)
                self._scope.deadline = float("inf")
                self._link.calls = calls
                self._take(client, listed)
                async with anyio.create_task_group() as group:
                    group.start_soon(self._listen, client)
                    try:
                        await self._watch(client)
                    finally:
                        self._link.calls = None
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
                    self._take(client, await list_tools(client))
            except TimeoutError:
                raise Ended(f"it did not list its tools within {LIST_TIMEOUT:g} s") from None

    def _doubt(self, fault: str) -> None:
        """A call finds the connection over, for that reason, or without one worth a look."""
        if fault:
            self._end(fault)
        else:
            self._wake.set()

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
            if self._link.calls is None and self._scope is not None:
                soon = anyio.current_time() + NONSENSE_PATIENCE
                self._scope.deadline = min(self._scope.deadline, soon)

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
        self._declared.take(listed)
        if changed:
            log.info("server_ready", server=self.name, tools=len(tools))
            self._set_state("ready", "")
        self._settled.set()
        self._link.has_looked("ready")
        self._note_listed()

    def _set_state(self, state: Any, reason: str, restarts: int | None = None) -> None:
        self._state = ServerState(
            name=self.name,
            state=state,
            reason=reason,
            tools=len(self.tools) if state == "ready" else 0,
            restarts=self._state.restarts if restarts is None else restarts,
        )
        if state != "ready":
            self._link.has_looked(state)
            self._note_listed()
        self._on_change(self)

    def _note_listed(self) -> None:
        """Wake those who wait for another look."""
        listed, self._listed = self._listed, asyncio.Event()
        listed.set()
