"""Turns: so many at a time for each key, so that one with thousands does not keep the others waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Gives each key `at_once` turns at a time; keys that nobody waits for cost nothing."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._holders: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        gate = self._gates.setdefault(key, asyncio.Semaphore(self._at_once))
        self._holders[key] = self._holders.get(key, 0) + 1
        try:
            async with gate:
                yield
        finally:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._gates[key], self._holders[key]
