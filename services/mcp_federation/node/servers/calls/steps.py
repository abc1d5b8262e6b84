"""Runs a coroutine in the task that awaits it, and lets go of it when it does not end on a cancellation."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Steps(Generic[T]):
    """A coroutine that runs as far as it goes without waiting, and is then awaited.

    A tool that never waits so costs neither a task nor a turn of the loop. What goes on after a
    cancellation is passed to `leave`, to be awaited there, and the cancellation goes through.
    """

    def __init__(self, work: Coroutine[Any, Any, T], leave: Callable[["Steps[T]"], object]) -> None:
        self._work = work
        self._leave = leave
        self._waits_for: Any = None
        self.waits = True
        self.result: T

    def start(self) -> None:
        """Run it up to its first wait; raises what it raises."""
        try:
            self._waits_for = self._work.send(None)
        except StopIteration as end:
            self.waits, self.result = False, end.value

    def __await__(self) -> Generator[Any, None, T]:
        while True:
            thrown: BaseException | None = None
            try:
                yield self._waits_for
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - the work's to handle, whatever it is
                thrown = error
            try:
                self._waits_for = self._work.send(None) if thrown is None else self._work.throw(thrown)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(thrown, asyncio.CancelledError):
                self._leave(self)
                raise thrown

    async def finish(self) -> T:
        """The same as a coroutine."""
        return await self
