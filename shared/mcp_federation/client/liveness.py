"""Ends the wait for an answer when the node that should give it is gone, and asks another where it hangs.

NATS says at once that nobody listens, but not that a listener died with the request in its hands, or stands
still and is given requests all the same.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum, auto
from functools import partial
from types import TracebackType
from typing import Any, Self

from mcp_federation.bus.alarms import Alarms
from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus, Delivery
from mcp_federation.contract.subjects import instance_ping
from mcp_federation.errors import FederationError, NodeLost, NodeUnavailable

FIRST_LOOK = 0.25
"""Seconds before the first look: most calls are answered by then, and cost one alarm."""

INTERVAL = 0.25
PING_TIMEOUT = 0.25
"""Seconds; one that has not answered by then is looked at again."""

PATIENCE = 3
"""Looks before something is concluded from what instances do not tell: where none has told that the call is
its, it is lost with one that is gone, or with one that hangs where none is."""

AskAgain = Callable[[frozenset[str]], Awaitable[Delivery] | None]
"""Asks for the same call once more, given the instances that are silent; None where that is not harmless."""


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
    Before it tells, all of them would have to be gone; or one, without any other telling. One is gone when
    nobody listens on its own subject.

    An instance that hangs is not gone: it tells nothing and answers no ping, while another answers. So does
    one that is slow. The call is then asked for a second time beside the first, by `ask_again`, where the
    tool allows it; the block ends with whichever `answer` comes first. `silent` are the instances that were
    so before an earlier asking: by one call no more than one other comes to hang.
    """

    def __init__(
        self,
        bus: Bus,
        alarms: Alarms,
        node: str,
        instances: Callable[[str], Iterable[str]],
        ask_again: AskAgain,
        silent: frozenset[str] | None = None,
    ) -> None:
        self.holder: str | None = None
        self.answer: Delivery | None = None
        self.all_lost = False
        self._bus = bus
        self._node = node
        self._instances = instances
        self._ask_again = ask_again
        self._silent_before = silent
        self._heard_of: set[str] = set()
        self._missed = 0
        self._unheard = 0
        self._error: FederationError | None = None
        self._alarms = alarms
        self._alarm = 0

    async def __aenter__(self) -> Self:
        begin = partial(self._begin, asyncio.current_task())
        self._alarm = self._alarms.set(time.monotonic() + FIRST_LOOK, begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._alarms.drop(self._alarm)
        if self._watch is None or not await self._ended(kind):
            return False
        if self.answer is None:
            lost = NodeLost(f"the node {self._node!r} went away before the answer came", {"node": self._node})
            raise self._error or lost from None
        return True

    async def _look(self) -> None:
        while True:
            # A caller that has just come may have heard of none; one that is gone is soon heard of no more.
            self._heard_of.update(self._instances(self._node))
            holder = self.holder
            pings = await self._ping(self._heard_of if holder is None else {holder})
            if self._is_lost(pings):
                return
            if holder is not None and pings[holder] is _Ping.SILENT:
                pings |= await self._ping(self._heard_of - {holder})
            asked = self._asked_again(holder, pings)
            if asked is not None:
                try:
                    self.answer = await asked
                except FederationError as error:
                    self._error = error
                return
            await asyncio.sleep(INTERVAL)

    def _is_lost(self, pings: dict[str, "_Ping"]) -> bool:
        gone = _those(pings, _Ping.GONE)
        self._missed = self._missed + 1 if gone else 0
        all_gone = bool(gone) and len(gone) == len(pings)
        self.all_lost = all_gone and self._heard_of <= gone
        return all_gone or (self._missed >= PATIENCE and self.holder is None)

    def _asked_again(self, holder: str | None, pings: dict[str, "_Ping"]) -> Awaitable[Delivery] | None:
        silent = _those(pings, _Ping.SILENT)
        hangs = self.holder is None if holder is None else holder in silent
        # Without another that answers it may be the bus, or all of them are busy.
        self._unheard = self._unheard + 1 if hangs and _Ping.ANSWERED in pings.values() else 0
        if self._silent_before is None:
            return self._ask_again(silent) if self._unheard >= PATIENCE else None
        return self._ask_again(silent) if self._unheard and silent <= self._silent_before else None

    async def _ping(self, instances: Iterable[str]) -> dict[str, "_Ping"]:
        pinged = list(instances)
        return dict(zip(pinged, await asyncio.gather(*map(self._ping_one, pinged)), strict=True))

    async def _ping_one(self, instance: str) -> "_Ping":
        try:
            await self._bus.request(instance_ping(instance), b"", timeout=PING_TIMEOUT)
        except NodeUnavailable:
            return _Ping.GONE
        except FederationError:
            return _Ping.SILENT
        return _Ping.ANSWERED


class _Ping(Enum):
    ANSWERED = auto()
    GONE = auto()
    SILENT = auto()
    """It is slow, or hangs, or the bus does not answer."""


def _those(pings: dict[str, _Ping], what: _Ping) -> frozenset[str]:
    return frozenset(instance for instance, ping in pings.items() if ping is what)
