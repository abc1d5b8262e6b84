"""Says now and then how far a long piece of work is."""

import asyncio
from typing import Final

from mcp_federation.logs import get_logger

log = get_logger("node")

MANY: Final = 200
"""Tools from which on a registration of all of them is long enough to tell of."""

EVERY_SECONDS: Final = 2.0


class RegistrationProgress:
    """Counts what is done of `total` tools, and logs it every few seconds where that is many."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._clock = asyncio.get_running_loop().time
        self._began = self._told = self._clock()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = self._clock()
        if self._total < MANY or (now - self._told < EVERY_SECONDS and self._done < self._total):
            return
        self._told = now
        rate = self._done / max(now - self._began, 0.001)
        log.info(
            "registration_progress",
            message=f"{self._done:,} of {self._total:,} tools registered",
            done=self._done,
            total=self._total,
            per_second=round(rate),
            seconds_left=round((self._total - self._done) / rate),
        )
