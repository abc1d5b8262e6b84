"""What is measured of each provider of a tool, kept up to date for whoever chooses among them."""

import time
from collections.abc import Callable

from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.contract.messages import Performance, Tally, decode
from mcp_federation.contract.subjects import PERFORMANCE, PERFORMANCE_STREAM
from mcp_federation.estimation import Estimate, estimate, evidence, scaled

HALF_LIFE = 600.0
"""Seconds after which what was measured counts half: a tool that nobody calls may have healed."""


class PerformanceView:
    """Start it, read it synchronously, stop it. Reads never touch the bus.

    A mesh without metrics is a mesh all the same: then nothing is known.
    """

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Tally, float]] = {}
        self._follower: Follower | None = None

    async def start(self) -> None:
        """Follow what the mesh measures, from behind: nothing is waited for."""
        self._follower = await self._bus.follow(PERFORMANCE_STREAM, self._on_stored, on_anew=self._on_anew)

    async def caught_up(self, timeout: float) -> None:
        """Wait until all that is measured now has been read.

        Raises:
            DeadlineExceeded: that took longer than `timeout` seconds, or there are no metrics.
        """
        if self._follower is not None:
            await self._follower.caught_up(timeout)

    async def stop(self) -> None:
        """Stop following."""
        follower, self._follower = self._follower, None
        if follower is not None:
            await follower.close()

    def get(self, node: str, tool: str) -> Estimate | None:
        """`(success_probability, p50_ms)` of the tool on that node; None where nobody measured it."""
        known = self._known.get((node, tool))
        if known is None:
            return None
        tally, since = known
        return estimate(scaled(tally, 0.5 ** ((self._clock() - since) / HALF_LIFE)))

    async def _on_anew(self) -> None:
        self._known.clear()

    async def _on_stored(self, stored: Stored) -> None:
        performance = decode(stored.payload, Performance)
        PERFORMANCE.check(stored.subject, performance.node, performance.tool)
        tally = evidence(performance.node, performance.recent)
        self._known[performance.node, performance.tool] = tally, self._clock()
