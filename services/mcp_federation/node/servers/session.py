"""One session with an MCP server: connected, listed, watched, and over once the server or we end it."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import mcp_types
from mcp import Client, MCPError
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

from mcp_federation.bus.handling import stop_task
from mcp_federation.logs import get_logger
from mcp_federation.node.servers.calls.calling import Calls
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.config import BrokenSpec, HttpSpec, Spec, StdioSpec
from mcp_federation.node.servers.faults import Ended, reason_of
from mcp_federation.node.servers.link import Link
from mcp_federation.node.servers.listing import list_tools
from mcp_federation.node.servers.stderr_tail import StderrTail
from mcp_federation.node.servers.toolboxes import ToolboxSpec
from mcp_federation.node.servers.transport import open_connection

log = get_logger("node")

NONSENSE_PATIENCE = 5.0
"""Seconds that a server which writes nonsense has left to start: it may have been a banner."""

STOP_TIMEOUT = 8.0
LIST_TIMEOUT = 20.0
LISTEN_PAUSE = 0.5
LOOK_PAUSE = 0.25
"""Seconds between two looks at the list at least, whatever the server tells of changes."""


OnList = Callable[[Client, list[mcp_types.Tool]], None]


class Session:
    """Sets the link's calls while it lasts, and tells `on_list` of the tools whenever it has looked.

    Over HTTP each call is a request of its own, which outlives a login or a session that is refused to
    others: the calls under way go on behind the end of it, each until its own deadline.
    """

    def __init__(
        self,
        name: str,
        spec: Spec | ToolboxSpec,
        link: Link,
        declared: Declared,
        on_list: OnList,
        *,
        start_timeout: float,
        poll_interval: float,
        max_concurrency: int,
        max_payload: int,
    ) -> None:
        self._name = name
        self._spec = spec
        self._link = link
        self._declared = declared
        self._on_list = on_list
        self._start_timeout = start_timeout
        self._poll_interval = poll_interval
        self._max_concurrency = max_concurrency
        self._max_payload = max_payload
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._fault = ""
        self._nonsense = ""
        self._starting: anyio.CancelScope | None = None
        self._scope = anyio.CancelScope()
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[str] = loop.create_future()
        self.task = loop.create_task(self._run())

    async def over(self) -> str:
        """Wait until no call can begin on it any more; why that is so."""
        return await asyncio.shield(self._over)

    def look(self) -> None:
        """Have the list read now."""
        self._wake.set()

    def end(self, fault: str = "it ended") -> None:
        """The connection is over: wake whoever watches it."""
        self._fault = self._fault or fault
        self._ended.set()
        self._wake.set()

    def give_up_start(self) -> bool:
        """End it where it is still starting; whether it was."""
        if self._starting is None or self._over.done():
            return False
        self._starting.deadline = float("-inf")
        return True

    async def stop(self) -> None:
        """End it, and the calls on it."""
        self._scope.cancel()
        await asyncio.wait([self.task], timeout=STOP_TIMEOUT)
        await stop_task(self.task)

    async def _run(self) -> None:
        stderr = StderrTail(self._name)
        reason = "it was stopped"
        try:
            with self._scope:
                await self._serve(stderr)
        except BaseExceptionGroup as group:
            if group.split((Exception,))[1] is not None:  # a cancellation or an exit is not ours to keep
                raise
            reason = await self._reason(group, stderr)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a server or the SDK does
            reason = await self._reason(error, stderr)
        finally:
            stderr.close()
            self._set_over(reason)

    def _set_over(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def _reason(self, error: BaseException, stderr: StderrTail) -> str:
        await stderr.drain()
        return reason_of(error, self._nonsense, stderr.last)

    async def _serve(self, stderr: StderrTail) -> None:
        if isinstance(self._spec, BrokenSpec):
            raise Ended(self._spec.reason)
        with anyio.fail_after(self._start_timeout) as self._starting:
            async with open_connection(
                self._name,
                self._spec,
                self._declared,
                on_end=self.end,
                stderr=stderr,
                on_message=self._on_message,
                max_concurrency=self._max_concurrency,
                max_payload=self._max_payload,
            ) as (client, calls):
                listed = await list_tools(client)
                self._starting.deadline = float("inf")
                self._starting = None
                self._link.calls = calls
                self._on_list(client, listed)
                try:
                    await self._attend(client)
                except Exception as error:
                    if isinstance(self._spec, HttpSpec):
                        await self._let_end(calls, error)
                    raise

    async def _let_end(self, calls: Calls, error: Exception) -> None:
        """Make way for the next session; the calls under way may still get their answers."""
        self._set_over(reason_of(error, self._nonsense))
        await self._link.idle(calls)

    async def _attend(self, client: Client) -> None:
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
                    self._on_list(client, await list_tools(client))
            except TimeoutError:
                raise Ended(f"it did not list its tools within {LIST_TIMEOUT:g} s") from None
            with anyio.move_on_after(min(LOOK_PAUSE, self._poll_interval)):
                await self._ended.wait()

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
            log.warn("server_nonsense", server=self._name, reason=self._nonsense)
            if self._starting is not None:
                soon = anyio.current_time() + NONSENSE_PATIENCE
                self._starting.deadline = min(self._starting.deadline, soon)
