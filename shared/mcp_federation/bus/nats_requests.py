"""The requests under way on one connection, and the one inbox that all their answers come to."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from mcp_federation.bus.alarms import Alarms
from mcp_federation.bus.nats_lane import STATUS, read_headers
from mcp_federation.bus.protocol import Delivery, Interim
from mcp_federation.contract.subjects import Header
from mcp_federation.errors import ConnectionLost, DeadlineExceeded, NodeUnavailable

_NO_RESPONDERS = "503"


class Requests:
    """Tells the answers that come to one inbox apart: a request costs a future, and no subscription."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._waiting: dict[str, tuple[asyncio.Future[Delivery], Interim | None]] = {}
        self._counter = 0
        self._deadlines = Alarms()

    @property
    def subject(self) -> str:
        """Where all answers come."""
        return f"{self._inbox}.*"

    async def answer(
        self, send: Callable[[str], Awaitable[None]], timeout: float, on_interim: Interim | None
    ) -> Delivery:
        """The answer to what `send` sends, which is given the subject to have it sent to.

        Raises:
            DeadlineExceeded: it did not come within `timeout` seconds.
            NodeUnavailable: nobody listens there.
            ConnectionLost: it may have come while we were not connected.
        """
        self._counter += 1
        token = str(self._counter)
        future: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future, on_interim
        alarm = self._deadlines.set(time.monotonic() + timeout, partial(_expire, future, timeout))
        try:
            await send(f"{self._inbox}.{token}")
            return await future
        finally:
            self._deadlines.drop(alarm)
            del self._waiting[token]

    def take(self, subject: str, reply: str, block: bytes, payload: bytes) -> None:
        """Hand a message of the inbox to who waits for it; by now it may be nobody."""
        future, on_interim = self._waiting.get(subject.rpartition(".")[2], (None, None))
        if future is None or future.done():
            return
        headers = read_headers(block) if block else {}
        delivery = Delivery(subject, payload, headers, reply or None)
        if Header.INTERIM in headers:
            if on_interim is not None:
                on_interim(delivery)
        elif headers.get(STATUS) == _NO_RESPONDERS and not payload:
            future.set_exception(NodeUnavailable("nobody answers there"))
        else:
            future.set_result(delivery)

    def fail(self) -> None:
        """No answer to a request under way may be waited for: it may have come while nobody listened."""
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost("the connection to NATS broke before the answer came"))

    def close(self) -> None:
        """Fail what is under way, and stop the timer."""
        self.fail()
        self._deadlines.clear()


def _expire(future: asyncio.Future[Delivery], timeout: float) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded(f"no answer within {timeout:g} s"))
