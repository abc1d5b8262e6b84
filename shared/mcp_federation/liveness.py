"""Ends the wait for an answer when the node that should give it is gone.

NATS says at once that nobody listens, but not that a listener died with the request in its hands.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self

from mcp_federation.bus.alarms import Alarms
from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.subjects import instance_ping
from mcp_federation.errors import FederationError, NodeLost, NodeUnavailable

FIRST_LOOK = 0.25
"""Seconds before the first look: most calls are answered by then, and cost one alarm."""

INTERVAL = 0.25
PING_TIMEOUT = 2.0

PATIENCE = 3
"""Looks at which one of several instances is missed before the call counts as lost with it, where none has
told that the call is its."""


class WhileWatched(ABC):
    """A block beside which a task looks for a reason to end it, and then does, by cancelling it."""

    _watch: asyncio.Task[None] | None = None
    _found = False

    @abstractmethod
    async def _look(self) -> None:
        """Return once there is a reason."""

    def _begin(self, block: "asyncio.Task[Any] | None") -> None:
        """Begin to look, beside a block that runs in that task."""
        if block is not None:
            self._watch = asyncio.get_running_loop().create_task(self._run(block))

    async def _run(self, block: "asyncio.Task[Any]") -> None:
        await self._look()
        self._found = True
        block.cancel()

    async def _ended(self, kind: type[BaseException] | None) -> bool:
        """Look no longer; whether it is for the reason found that the block is left, with that exception."""
        if self._watch is None:
            return False
        await stop_task(self._watch)
        task = asyncio.current_task()
        # Somebody else may have cancelled it as well.
        return self._found and task is not None and task.uncancel() == 0 and kind is asyncio.CancelledError


class WhileAlive(WhileWatched):
    """A block that is left with `NodeLost` once the instance that has the call is not there any more.

    Which one that is tells itself, to `holder`; `instances` gives those that are heard of by the node's name.
    Before it tells, all of them would have to be gone; or one, without any other telling. Instances that are
    busy or slow are there; one is gone when nobody listens on its own subject.
    """

    def __init__(
        self, bus: Bus, alarms: Alarms, node: str, instances: Callable[[str], Iterable[str]]
    ) -> None:
        self.holder: str | None = None
        self.all_lost = False
        self._bus = bus
        self._node = node
        self._instances = instances
        self._heard_of: set[str] = set()
        self._alarms = alarms
        self._alarm = 0

    async def __aenter__(self) -> Self:
        begin = partial(self._begin, asyncio.current_task())
        self._alarm = self._alarms.set(time.monotonic() + FIRST_LOOK, begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarms.drop(self._alarm)
        if self._watch is not None and await self._ended(kind):
            raise NodeLost(
                f"the node {self._node!r} went away before the answer came", {"node": self._node}
            ) from None

    async def _look(self) -> None:
        missed = 0
        while True:
            # A caller that has just come may have heard of none; one that is gone is soon heard of no more.
            self._heard_of.update(self._instances(self._node))
            watched = {self.holder} if self.holder is not None else set(self._heard_of)
            there = await asyncio.gather(*map(self._is_there, watched))
            missed = 0 if all(there) else missed + 1
            if watched and (not any(there) or (missed >= PATIENCE and self.holder is None)):
                self.all_lost = not any(there) and self._heard_of <= watched
                return
            await asyncio.sleep(INTERVAL)

    async def _is_there(self, instance: str) -> bool:
        try:
            await self._bus.request(instance_ping(instance), b"", timeout=PING_TIMEOUT)
        except NodeUnavailable:
            return False
        except FederationError:
            return True  # it is slow, or we cannot tell
        return True
