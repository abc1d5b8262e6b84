"""Server-sent events (WHATWG HTML, section 9.2): an answer that comes in steps."""

import asyncio
import re
from collections import deque
from types import TracebackType
from typing import Final, Self

from starlette.types import Scope, Send

from mcp_federation.bus.handling import stop_task
from mcp_federation.contract.messages import Progress, encode

MEDIA_TYPE: Final = "text/event-stream"
KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which a comment is sent, so that nothing on the way takes the line for dead."""

MAX_WAITING: Final = 256
"""Events that may wait for a slow reader; beyond them the oldest progress is dropped."""

_REFUSED = re.compile(rb"q=0(\.0*)?")
_HEADERS = [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]


def wants_events(scope: Scope) -> bool:
    """Whether the caller accepts a stream of events."""
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    for part in accept.lower().split(b","):
        kind, *parameters = (word.strip() for word in part.split(b";"))
        if kind == b"text/event-stream":
            return not any(_REFUSED.fullmatch(word) for word in parameters)
    return False


class EventStream:
    """The events of one answer. The response begins with the first of them, or with the first silence."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._started = False
        self._ended = False
        self._send = send
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._writer = asyncio.get_running_loop().create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_task(self._writer)

    def progress(self, progress: Progress) -> None:
        """Send a step, behind those before it."""
        self.begun = True
        self._waiting.append(_event("progress", encode(progress)))
        self._wake.set()

    async def last(self, name: str, data: bytes | memoryview) -> None:
        """Send the last event, behind all others, and end the response."""
        self._waiting.append(_event(name, bytes(data)))
        self._ended = True
        self._wake.set()
        if self._writer is not None:
            await self._writer  # it raises what sending does: the caller went away

    async def _write(self) -> None:
        while not self._ended:
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    await self._wake.wait()
            except TimeoutError:
                self._waiting.append(b":\n\n")
            self._wake.clear()
            while self._waiting:
                await self._chunk(self._waiting.popleft())
        await self._chunk(b"", more=False)

    async def _chunk(self, body: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _event(name: str, data: bytes) -> bytes:
    """JSON has no line feed, and so is one line of data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
