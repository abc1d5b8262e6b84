"""Room for payloads, in bytes: who finds too little waits for those before it, first come, first served."""

import asyncio
from collections import deque


class Room:
    """So many bytes that payloads take and give back. Each takes no more than there are in all."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def wanted(self) -> int:
        """The bytes that are waited for."""
        return sum(size for size, _ in self._waiting)

    async def take(self, size: int) -> None:
        """Take so many bytes, once all who came before have theirs."""
        if not self._waiting and self.fits(size):
            self._taken += size
            return
        turn = size, asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn[1]
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._let_in()
            else:
                self.give_back(size)  # its turn came while it was cancelled
            raise

    def give_back(self, size: int) -> None:
        """Need so many bytes no longer."""
        self._taken -= size
        self._let_in()

    def fits(self, size: int) -> bool:
        """Whether so many bytes are free."""
        return self._taken + size <= self.size

    def _let_in(self) -> None:
        while self._waiting and self.fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            self._taken += size
            turn.set_result(None)
