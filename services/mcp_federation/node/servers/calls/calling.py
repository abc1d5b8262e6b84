"""What every kind of connection offers: one call of a tool, within its deadline."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from mcp_federation.contract.messages import Progress
from mcp_federation.errors import DeadlineExceeded
from mcp_federation.logs import get_logger

log = get_logger("node")

OnProgress = Callable[[Progress], None]

STOP_TIMEOUT = 8.0


class Outcome(NamedTuple):
    """The JSON of MCP's `CallToolResult`, and whether it reports an error."""

    result: bytes
    is_error: bool


class Calls(Protocol):
    """Calls tools over one connection."""

    async def call(
        self, name: str, arguments: dict[str, Any], timeout: float, on_progress: OnProgress | None
    ) -> Outcome:
        """Call a tool; past `timeout` seconds nobody waits for it, and the server is told.

        Raises:
            FederationError: what became of it.
            Disconnected: the connection did not bring an answer.
        """
        ...

    async def close(self) -> None:
        """End the calls under way."""
        ...


class Disconnected(Exception):
    """The connection, or the session on it, ended under a call.

    `ran` is False where the tool surely did not run, None where it may have. With a `fault` the connection
    is over for every call, for that reason; without one it is worth a look. The message is for the caller.
    """

    def __init__(self, message: str, *, fault: str = "", ran: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fault = fault
        self.ran = ran


def replaced(server: str) -> Disconnected:
    """The error of a call that comes to a connection which was closed before."""
    message = f"the MCP server {server!r} no longer takes calls on this connection"
    return Disconnected(message, fault="it ended", ran=False)


def too_late(timeout: float) -> DeadlineExceeded:
    """The error of a call that took longer than it may."""
    return DeadlineExceeded(f"the tool did not answer within {timeout:.3g} s")


def tell(on_progress: OnProgress, progress: Progress) -> None:
    """Tell who called; that it fails there is no reason to stop reading from the server."""
    try:
        on_progress(progress)
    except Exception:
        log.exception("progress_lost")


class OwnTasks:
    """Runs calls in tasks of their own, for what may not heed that its caller gave it up.

    Given up are threads, and pipes that nobody reads: they go on, and `abandoned` counts them.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self.abandoned = 0
        self.closed = False

    def keep(self, work: Coroutine[Any, Any, Outcome]) -> asyncio.Task[Outcome]:
        """Let it go on as a task of this owner."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def run(
        self,
        work: Coroutine[Any, Any, Outcome],
        timeout: float,
        give_up: Callable[[asyncio.Task[Outcome]], object] = asyncio.Task.cancel,
    ) -> Outcome:
        """What the work gives; past the deadline, or when cancelled, it is given up and left behind."""
        task = self.keep(work)
        try:
            done, _ = await asyncio.wait((task,), timeout=timeout)
        except asyncio.CancelledError:
            self._abandon(task, give_up)
            raise
        if not done:
            self._abandon(task, give_up)
            raise too_late(timeout)
        if task.cancelled():
            raise Disconnected("the connection to the MCP server ended during the call")
        return task.result()

    def _abandon(
        self, task: asyncio.Task[Outcome], give_up: Callable[[asyncio.Task[Outcome]], object]
    ) -> None:
        if not task.done():
            give_up(task)
            self.abandoned += 1
            task.add_done_callback(self._abandoned_done)

    def _done(self, task: asyncio.Task[Outcome]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting any more

    def _abandoned_done(self, _: asyncio.Task[Outcome]) -> None:
        self.abandoned -= 1

    async def close(self) -> None:
        """Cancel all, and wait for those that heed it."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=STOP_TIMEOUT)
