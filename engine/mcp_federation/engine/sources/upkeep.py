"""Keeps a source of tools followed, and read now and then, beside the requests."""

import asyncio
import time
from contextlib import suppress
from random import uniform

from mcp_federation.bus.handling import stop_task
from mcp_federation.engine.sources.source import CatalogSource, OnChange
from mcp_federation.errors import FederationError
from mcp_federation.logs import get_logger

log = get_logger("engine")

INTERVAL = 60.0
"""Seconds after which a source that cannot be followed is read anew; and the longest pause after failures."""

RETRY = 1.0
"""Seconds after which one that failed is tried again, at first; and between two looks that calls ask for."""

TRY_TIMEOUT = 30.0
"""Seconds that one try may take, whatever the source's own deadline is."""


class Upkeep:
    """One source and, from `start` to `stop`, the task that keeps it up to date.

    A source that cannot be reached is tried again, in pauses that double up to `INTERVAL`.
    """

    def __init__(self, source: CatalogSource, on_change: OnChange) -> None:
        self._source = source
        self._on_change = on_change
        self._failures = 1  # as long as it was never read
        self._read_at = 0.0
        self._started = False
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()

    async def load(self) -> None:
        """Bring the source up to date now.

        Raises:
            FederationError: it cannot be reached.
        """
        try:
            await self._follow()
            await self._source.load()
        except BaseException:
            self._failures += 1
            raise
        else:
            self._failures = 0
        finally:
            self._read_at = time.monotonic()
            self._on_change()

    def look(self) -> None:
        """Bring it up to date soon: a call found that it may be gone."""
        if not self._failures and time.monotonic() - self._read_at >= RETRY:
            self._wanted.set()

    async def start(self) -> None:
        """Follow it from now on; where that fails now, later.

        Raises:
            FederationError: it fails now.
        """
        if self._running:
            return
        # New ones: an engine may be opened again in another event loop, also where the first one just ended.
        self._turn, self._wanted, self._started = asyncio.Lock(), asyncio.Event(), False
        self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            await self._follow()
        except BaseException:
            self._failures += 1
            raise

    async def stop(self) -> None:
        """Follow it no longer."""
        running, task = self._running, self._task
        self._task = None
        if running:
            await stop_task(task)
        async with self._turn:
            self._started = False
            await self._source.stop()

    @property
    def _running(self) -> bool:
        """Whether there is a task, and its event loop has not ended."""
        return self._task is not None and not self._task.get_loop().is_closed()

    async def _follow(self) -> None:
        """Begin to follow the source, once, and only while there is a `stop` to come."""
        async with self._turn:
            if self._running and not self._started:
                await self._source.start(self._on_change)
                self._started = True

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_after(self._failures)):
                    await self._wanted.wait()
            self._wanted.clear()
            before = self._failures
            try:
                async with asyncio.timeout(TRY_TIMEOUT):
                    await self.load()
            except (FederationError, TimeoutError) as error:
                if not before:
                    reason = error.message if isinstance(error, FederationError) else "it took too long"
                    log.warn("source_unavailable", source=self._source.label, reason=reason)
            except Exception:
                log.exception("source_failed", source=self._source.label)
            else:
                if before:
                    log.info("source_available", source=self._source.label)


def pause_after(failures: int) -> float:
    """Seconds until the next try, after so many failures in a row; by chance, lest all come at once."""
    longest = min(RETRY * 2.0 ** min(failures - 1, 60), INTERVAL) if failures else INTERVAL
    return uniform(longest / 2, longest)  # noqa: S311 - spreads tries, keeps no secret
