"""Ends the wait for an answer when the node that should give it is gone.

NATS says at once that nobody listens, but not that a listener died with the request in its hands.
"""

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Self

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


class WhileAlive:
    """A block that is left with `NodeLost` once the instance that has the call is not there any more.

    Which one that is tells itself, to `holder`. Before, all of them would have to be gone; or one, without
    any other telling. Instances that are busy or slow are there; one is gone when nobody listens on its own
    subject.
    """

    def __init__(self, bus: Bus, alarms: Alarms, node: str, instances: Iterable[str]) -> None:
        self.holder: str | None = None
        self.all_lost = False
        self._bus = bus
        self._node = node
        self._instances = tuple(instances)
        self._lost = False
        self._alarms = alarms
        self._alarm = 0
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if self._instances and task is not None:
            self._alarm = self._alarms.set(time.monotonic() + FIRST_LOOK, partial(self._begin, task))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarms.drop(self._alarm)
        if self._watch is None:
            return
        await stop_task(self._watch)
        task = asyncio.current_task()
        if self._lost and task is not None and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise NodeLost(
                f"the node {self._node!r} went away before the answer came", {"node": self._node}
            ) from None

    def _begin(self, task: "asyncio.Task[object]") -> None:
        self._watch = asyncio.get_running_loop().create_task(self._look(task))

    async def _look(self, task: "asyncio.Task[object]") -> None:
        missed = 0
        while True:
            watched = (self.holder,) if self.holder is not None else self._instances
            there = await asyncio.gather(*map(self._is_there, watched))
            missed = 0 if all(there) else missed + 1
            if not any(there) or (missed >= PATIENCE and self.holder is None):
                self.all_lost = not any(there) and len(self._instances) == len(watched)
                self._lost = True
                task.cancel()
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
