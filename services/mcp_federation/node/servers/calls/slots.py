"""Bounds how many calls a server has at once: a few more wait a moment, and any other is refused at once."""

import asyncio
from collections import deque
from contextlib import suppress

from mcp_federation.errors import Overloaded

QUEUE_WAIT = 0.025
"""Seconds that a call waits at most for a free slot: who is refused should know before long."""

MIN_RETRY_MS = 10
MAX_RETRY_MS = 5000
_WEIGHT = 0.1
"""How much the latest call counts in the mean duration."""


class Slots:
    """`limit` calls at once, and as many waiting; `name` is that of the server, for the error."""

    def __init__(self, name: str, limit: int, *, wait: float = QUEUE_WAIT) -> None:
        self._name = name
        self.limit = limit
        self._free = limit
        self._wait = wait
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean = 0.0

    @property
    def in_use(self) -> int:
        """How many calls are under way."""
        return self.limit - self._free

    async def take(self, timeout: float) -> None:
        """Take a slot, within `timeout` seconds.

        Raises:
            Overloaded: there is none; `retry_after_ms` says when to try again.
        """
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= self.limit:
            raise self._overloaded()
        loop = asyncio.get_running_loop()
        given: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(min(self._wait, timeout), _refuse, given)
        self._waiting.append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled() and given.exception() is None:
                self.give_back()  # given just as its caller went
            raise
        except TimeoutError:
            raise self._overloaded() from None
        finally:
            timer.cancel()
            with suppress(ValueError):
                self._waiting.remove(given)

    def give_back(self, seconds: float | None = None) -> None:
        """Give a slot back, after a call that took so long."""
        if seconds is not None:
            self._mean += _WEIGHT * (seconds - self._mean) if self._mean else seconds
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_result(None)
                return
        self._free += 1

    def _overloaded(self) -> Overloaded:
        # Those that wait go first: one round of all slots takes about the mean of a call.
        rounds = 1 + len(self._waiting) / self.limit
        hint = round(max(MIN_RETRY_MS, min(MAX_RETRY_MS, 1000 * self._mean * rounds)))
        message = f"the MCP server {self._name!r} has as many calls as it takes at once"
        return Overloaded(message, {"retry_after_ms": hint})


def _refuse(given: asyncio.Future[None]) -> None:
    if not given.done():
        given.set_exception(TimeoutError())
