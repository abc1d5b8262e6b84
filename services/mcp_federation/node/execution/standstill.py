"""Notices that this process stood still, as one that was stopped or starved does, and lets it catch up.

Requests wait in the socket meanwhile, and their callers give up. Before one of them runs, everything that was
sent until now is received, so that the callers' cancels come first.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus
from mcp_federation.errors import BusUnavailable

TICK: Final = 0.1
STILL: Final = 0.3
"""Seconds without a turn of the loop after which callers may have given up."""

CATCH_UP_TIMEOUT: Final = 2.0


class Standstill:
    """Watches one event loop, from `start` to `stop`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._seen = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._catching_up: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._seen = time.monotonic()
        self._tick()

    async def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        await stop_task(self._catching_up)

    @property
    def is_over(self) -> bool:
        """Whether there was none, or all that came meanwhile has been received."""
        self._look()
        return self._catching_up is None

    async def over(self) -> None:
        """Wait until it is."""
        if self._catching_up is not None:
            await asyncio.wait({self._catching_up})

    def _tick(self) -> None:
        self._look()
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _look(self) -> None:
        # A message may be taken before the timer's turn comes: so whoever comes first looks.
        now = time.monotonic()
        if now - self._seen > STILL and self._catching_up is None:
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())
        if now - self._seen > TICK:
            self._seen = now

    async def _catch_up(self) -> None:
        with suppress(BusUnavailable):
            await self._bus.flush(CATCH_UP_TIMEOUT)
        self._catching_up = None
