"""One MCP server under supervision: started, listed, watched, called, and started again when it falls.

Whatever it does — not start, crash, hang, answer nonsense — costs its own tools only.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import mcp_types
from mcp import Client

from mcp_federation.bus.handling import stop_task
from mcp_federation.contract.messages import ServerState
from mcp_federation.errors import ServerUnavailable
from mcp_federation.logs import get_logger
from mcp_federation.node.servers.calls.calling import OnProgress, Outcome
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.calls.slots import Slots
from mcp_federation.node.servers.config import BrokenSpec, HttpSpec, Spec
from mcp_federation.node.servers.faults import Ended, reason_of
from mcp_federation.node.servers.link import Link
from mcp_federation.node.servers.session import Session
from mcp_federation.node.servers.toolboxes import ToolboxSpec
from mcp_federation.node.tools import LocalTool, to_local_tools

log = get_logger("node")

BACKOFF_FIRST = 0.5
BACKOFF_MAX = 30.0
BACKOFF_MAX_HTTP = 5.0
"""To ask a server on the network again costs less than to start a process."""

HANG_PATIENCE = 2.0
"""Seconds that a start over HTTP takes at least before one that a call waits for is given up."""

HEALTHY_AFTER = 30.0
"""Seconds of good health after which a server's backoff begins anew."""


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
        self._listed_last: tuple[list[mcp_types.Tool], str] | None = None
        self.title = ""
        self.instructions = ""
        limit = getattr(spec, "max_concurrency", None) or max_concurrency
        self._slots = Slots(name, limit)
        self._max_payload = max_payload
        self._declared = Declared()
        self._link = Link(name, self._declared, self._doubt, self._begin_anew)
        self._state = ServerState(name=name, state="starting")
        self._settled = asyncio.Event()
        self._listed = asyncio.Event()
        self._stop = asyncio.Event()
        self._began = 0.0
        self._patience = float("inf")
        self._session: Session | None = None
        self._sessions: set[Session] = set()
        """That one, and those before it on which calls are still under way."""
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

    @property
    def connected(self) -> bool:
        """Whether a call would go to it at once."""
        return self._link.calls is not None

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
        self._doubt("")
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
        await asyncio.gather(*(session.stop() for session in self._sessions))
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
            began = self._began = loop.time()
            self._link.wanted.clear()
            reason = await self._open().over()
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

    def _open(self) -> Session:
        session = Session(
            self.name,
            self._spec,
            self._link,
            self._declared,
            self._take,
            start_timeout=self._start_timeout,
            poll_interval=self._poll_interval,
            max_concurrency=self._slots.limit,
            max_payload=self._max_payload,
        )
        self._session = session
        self._sessions.add(session)
        session.task.add_done_callback(lambda _: self._sessions.discard(session))
        return session

    def _doubt(self, fault: str) -> None:
        """A call finds the connection over, for that reason, or without one worth a look."""
        if self._session is None:
            return
        if fault:
            self._session.end(fault)
        else:
            self._session.look()

    def _begin_anew(self) -> bool:
        """A call waits: give up a start that still hangs on what the server has forgotten by now.

        How long it may take follows from the last that worked, and grows, as the server may have become
        slow. Processes are left alone: they would have to start from scratch.
        """
        taken = asyncio.get_running_loop().time() - self._began
        if self._session is None or not isinstance(self._spec, HttpSpec) or taken < self._patience:
            return False
        if not self._session.give_up_start():
            return False
        self._patience = max(self._patience, min(2 * self._patience, self._start_timeout / 4))
        return True

    def _take(self, client: Client, listed: list[mcp_types.Tool]) -> None:
        info = client.server_info
        changed = self._state.state != "ready"
        version = info.version if info else ""
        if self._listed_last != (listed, version):  # or the digests, which take a while, are the same
            self._listed_last = listed, version
            changed |= self._take_tools(listed, version)
        self.title = (info.title if info else None) or ""
        self.instructions = client.instructions or ""
        if self._state.state != "ready":
            self._patience = max(HANG_PATIENCE, 2 * (asyncio.get_running_loop().time() - self._began))
        if changed:
            log.info("server_ready", server=self.name, tools=len(self.tools))
            self._set_state("ready", "")
        self._settled.set()
        self._link.has_looked("ready")
        self._note_listed()

    def _take_tools(self, listed: list[mcp_types.Tool], version: str) -> bool:
        """Whether that makes other tools than before."""
        tools, unfit = to_local_tools(
            self.name, listed, version=version, only_tool_is_server=isinstance(self._spec, ToolboxSpec)
        )
        for name, reason in unfit.items():
            if name not in self.unfit:
                log.warn("tool_unfit", server=self.name, tool=name, reason=reason)
        before = self.tools, self.unfit
        self.tools, self.unfit = tools, unfit
        self._declared.take(listed)
        return before != (tools, unfit)

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
