"""The connection of one server as its calls see it: there, in doubt, or waited for."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mcp_federation.errors import ServerDown, ServerUnavailable, ToolFailed
from mcp_federation.logs import get_logger
from mcp_federation.node.servers.calls.calling import Calls, Disconnected, OnProgress, Outcome
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.calls.results import BrokenContract
from mcp_federation.node.servers.faults import MAX_REASON

log = get_logger("node")

ATTEMPTS = 2
"""How often a call is tried where its connection breaks, and it is safe to try again."""

RECONNECT_TIMEOUT = 2.0
"""Seconds that a call waits at most for a server that is down to be back."""

_WHY_NOT = {"starting": "is starting", "stopped": "is stopping"}


class Link:
    """Calls tools over the connection that its server's supervisor sets as `calls`.

    `on_doubt` is called where a connection is worth a look, or is over for the reason given. `wanted` is
    set when a call waits for a server that is down; `begin_anew` is called then, and tells whether it gave
    up a start that hangs.
    """

    def __init__(
        self,
        name: str,
        declared: Declared,
        on_doubt: Callable[[str], None],
        begin_anew: Callable[[], bool],
    ) -> None:
        self._name = name
        self._declared = declared
        self._on_doubt = on_doubt
        self._begin_anew = begin_anew
        self._state = "starting"
        self._down_since = float("-inf")
        self._looked = asyncio.Event()
        self._under_way: Counter[Calls] = Counter()
        self._is_idle = asyncio.Event()
        self.calls: Calls | None = None
        self.wanted = asyncio.Event()

    def has_looked(self, state: str) -> None:
        """The supervisor has looked at the server, or tried to start it, and this is its state."""
        if self._state == "ready" and state != "ready":
            self._down_since = asyncio.get_running_loop().time()
        self._state = state
        self._looked.set()
        self._looked = asyncio.Event()

    async def connected(self, timeout: float, look: asyncio.Event | None = None) -> Calls:
        """The connection, once there is one; behind `look`, where one is in doubt.

        A server that is down is tried again now: its pause must not outlive its recovery. One that has
        been down for long is tried once.

        Raises:
            ServerDown: it is not there in time.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, RECONNECT_TIMEOUT)):
                if look is not None:
                    await look.wait()
                await self._wait()
        if self.calls is not None:
            return self.calls
        # The reason is in the presence; it may say more than a caller should know.
        what = _WHY_NOT.get(self._state, "failed, and is started anew")
        raise ServerDown(f"the MCP server {self._name!r} {what}")

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        tried = False
        while self.calls is None and self._state != "stopped":
            if self._state == "failed":
                if tried and loop.time() > self._down_since + RECONNECT_TIMEOUT:
                    return
                self.wanted.set()
                tried = not self._begin_anew()
            await self._looked.wait()

    async def call(
        self,
        calls: Calls,
        name: str,
        arguments: dict[str, Any],
        deadline: float,
        on_progress: OnProgress | None,
    ) -> Outcome:
        """Call a tool until `deadline`, over `calls` or, where that is safe, what comes behind it.

        `deadline` is in `time.monotonic()`.

        Raises:
            FederationError: what became of it.
        """
        surely_not = True
        for attempt in range(ATTEMPTS):
            try:
                with self._counted(calls):
                    left = max(0.0, deadline - time.monotonic())
                    return await calls.call(name, arguments, left, on_progress)
            except BrokenContract as error:
                log.warn("server_nonsense", server=self._name, tool=name, reason=str(error)[:MAX_REASON])
                message = "the MCP server answered with a result that breaks its own contract"
                raise ToolFailed(message) from error
            except Disconnected as error:
                lost = error
            look = self._doubt(calls, lost.fault)
            surely_not = surely_not and lost.ran is False
            if attempt + 1 == ATTEMPTS or not (surely_not or self._declared.may_repeat(name)):
                break
            try:
                calls = await self.connected(deadline - time.monotonic(), look)
            except ServerDown:
                break
        raise (ServerDown if surely_not else ServerUnavailable)(lost.message) from lost

    async def idle(self, calls: Calls) -> None:
        """Wait until no call is under way on this connection; each has a deadline."""
        while calls in self._under_way:
            self._is_idle.clear()
            await self._is_idle.wait()

    @contextmanager
    def _counted(self, calls: Calls) -> Iterator[None]:
        self._under_way[calls] += 1
        try:
            yield
        finally:
            self._under_way[calls] -= 1
            if not self._under_way[calls]:
                del self._under_way[calls]
                self._is_idle.set()

    def _doubt(self, calls: Calls, fault: str) -> asyncio.Event | None:
        """Have a connection looked at, or ended; what is set once it was looked at."""
        if self.calls is not calls:
            return None  # it was, because of another call
        if fault:
            self.calls = None
        self._on_doubt(fault)
        return None if fault else self._looked
