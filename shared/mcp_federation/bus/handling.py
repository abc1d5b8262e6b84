"""What both buses do alike with a message that arrived: run its handler, bound how many run, answer."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from mcp_federation.bus.protocol import Delivery, Handler, Reply, Responder, Subscription
from mcp_federation.contract.messages import encode, error_reply
from mcp_federation.contract.subjects import Header
from mcp_federation.errors import FederationError, InternalError, Overloaded
from mcp_federation.logs import get_logger

log = get_logger("bus")

MAX_HEADER_TEXT = 512
CLOSE_TIMEOUT = 10.0
"""How long closing waits for handlers that still run, in seconds, before it cancels them."""

CANCEL_AGAIN = 0.5
OVERLOAD_RETRY_MS = 100


class Tasks:
    """The running handlers of one subscription: owned, bounded in number, awaited on close."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: dict[int, asyncio.Task[Any]] = {}
        self._count = 0
        self._room = asyncio.Event()
        self._room.set()

    @property
    def full(self) -> bool:
        """Whether as many run as may."""
        return len(self._running) >= self._limit

    async def room(self) -> None:
        """Wait until one more may run."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it as a task of this owner."""
        self._count += 1
        self._running[self._count] = asyncio.get_running_loop().create_task(self._run(self._count, work))

    async def _run(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        # Cheaper than a callback of the task, which is an event of the loop.
        try:
            await work
        finally:
            del self._running[number]
            self._room.set()

    async def finish(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Wait for what runs, and cancel what takes longer than `timeout` seconds."""
        # A handler may close its own subscription: it cannot wait for itself.
        running = set(self._running.values()) - {asyncio.current_task()}
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=timeout)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class _Closable(Subscription, Protocol):
    @property
    def closed(self) -> bool: ...


S = TypeVar("S", bound=_Closable)


class Subscriptions:
    """What one bus has open, and closes at its own end; what is closed before is not kept."""

    def __init__(self) -> None:
        self._open: list[_Closable] = []

    def add(self, subscription: S) -> S:
        """The subscription itself, which is closed with the others unless that is done before."""
        self._open = [each for each in self._open if not each.closed]
        self._open.append(subscription)
        return subscription

    async def close(self) -> None:
        """Close all, the latest first."""
        while self._open:
            await self._open.pop().close()


class Owner:
    """Something with one task, which is cancelled on close."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)

    @property
    def closed(self) -> bool:
        """Whether it has stopped."""
        return self._task.done()

    async def close(self) -> None:
        """Stop."""
        await stop_task(self._task)


async def handle(handler: Handler, delivery: Delivery) -> None:
    """Run a handler; what it raises is logged, so that one bad message never ends a loop."""
    try:
        await handler(delivery)
    except FederationError as error:
        log.warn("message_refused", subject=delivery.subject, code=error.code, reason=error.message)
    except Exception:
        log.exception("handler_failed", subject=delivery.subject)


async def answer(responder: Responder, delivery: Delivery) -> Reply | None:
    """What a responder answers; an error becomes an error reply."""
    try:
        return await responder(delivery)
    except FederationError as error:
        return error_answer(error)
    except Exception:
        log.exception("responder_failed", subject=delivery.subject)
        return error_answer(InternalError("the request failed for a reason of ours"))


def error_answer(error: FederationError) -> Reply:
    """The error as a reply, with the headers that ADR-32 clients read."""
    text = " ".join(error.message.split())[:MAX_HEADER_TEXT].encode("ascii", "replace").decode()
    headers = {Header.ERROR: text or error.title, Header.ERROR_CODE: str(error.status)}
    return Reply(encode(error_reply(error)), headers)


def overloaded() -> Reply:
    """The answer of a responder that is at its limit."""
    return error_answer(Overloaded("too many requests at once", {"retry_after_ms": OVERLOAD_RETRY_MS}))


async def stop_task(task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task that one owns and wait for its end."""
    while task is not None and not task.done():
        task.cancel()
        # Again after a while: `asyncio.wait_for` of Python 3.11, which nats-py uses, swallows a cancellation
        # that comes in the same turn of the loop as what it waits for.
        await asyncio.wait([task], timeout=CANCEL_AGAIN)
