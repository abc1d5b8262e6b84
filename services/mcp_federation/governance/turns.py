"""Turns: so many at a time for each key, and so many that wait: one with thousands takes no other's place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_federation.errors import Overloaded


class Turns:
    """Gives each key `at_once` turns at a time, and `most` that wait; unused keys cost nothing."""

    def __init__(self, at_once: int, most: int) -> None:
        self._at_once = at_once
        self._most = most
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._holders: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it.

        Raises:
            Overloaded: as many of the key as may have a turn or wait for one.
        """
        if self._holders.get(key, 0) >= self._most:
            raise Overloaded(f"{key} has {self._most} requests here already; send the next ones later")
        gate = self._gates.setdefault(key, asyncio.Semaphore(self._at_once))
        self._holders[key] = self._holders.get(key, 0) + 1
        try:
            async with gate:
                yield
        finally:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._gates[key], self._holders[key]
