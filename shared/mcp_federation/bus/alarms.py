"""Many deadlines on one timer of the event loop.

Nearly all deadlines are dropped before they come. A timer of the loop's own for each costs more than all
else that a call needs of the loop; here one costs an entry in a dictionary.
"""

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Final

TICK: Final = 0.005
"""Seconds that an alarm may come late, so that many close to each other are looked at together."""


class Alarms:
    """Calls functions at given times, unless they are dropped before. It belongs to one event loop."""

    def __init__(self) -> None:
        self._set: dict[int, tuple[float, Callable[[], None]]] = {}
        self._count = 0
        self._next = inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are set."""
        return len(self._set)

    def set(self, at: float, call: Callable[[], None]) -> int:
        """Have a function called at a time of `time.monotonic()`; the number is for `drop`."""
        self._count += 1
        self._set[self._count] = at, call
        if at < self._next:
            self._arm(at)
        return self._count

    def drop(self, number: int) -> None:
        """Do not call it any more; one that was called is dropped already."""
        self._set.pop(number, None)

    def clear(self) -> None:
        """Drop all."""
        self._set.clear()
        self._next = inf
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = at
        self._timer = asyncio.get_running_loop().call_later(at - time.monotonic(), self._ring)

    def _ring(self) -> None:
        now = time.monotonic()
        # Armed before anything is called: what is called may set others.
        self._next = inf
        due = [number for number, (at, _) in self._set.items() if at <= now]
        calls = [self._set.pop(number)[1] for number in due]
        if self._set:
            self._arm(max(min(at for at, _ in self._set.values()), now + TICK))
        for call in calls:
            call()
