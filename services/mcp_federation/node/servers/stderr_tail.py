"""Keeps the last lines that a child process wrote to stderr, so that a failure can say why."""

import asyncio
import os
from collections import deque
from contextlib import suppress
from typing import TextIO

from mcp_federation.logs import get_logger

log = get_logger("node")

LINES = 20
MAX_LINE = 500
DRAIN_TIMEOUT = 0.2


class StderrTail(asyncio.Protocol):
    """A pipe whose writing end goes to the child as `file`; read it with `last`."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._lines: deque[str] = deque(maxlen=LINES)
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None
        self._ended = asyncio.Event()
        self.file: TextIO | None = None

    async def open(self) -> TextIO:
        """Open the pipe; the end to give to the child."""
        reading, writing = os.pipe()
        self.file = os.fdopen(writing, "w")
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: self, os.fdopen(reading, "rb", 0))
        return self.file

    def child_started(self) -> None:
        """Close our copy of the writing end, so that the pipe ends with the child."""
        if self.file is not None:
            self.file.close()

    async def drain(self) -> None:
        """Wait until all that an ended child wrote is read, a moment at most: its own children may go on."""
        self.child_started()
        if self._transport is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT):
                    await self._ended.wait()

    def close(self) -> None:
        """Close both ends."""
        self.child_started()
        if self._transport is not None:
            self._transport.close()

    @property
    def last(self) -> str:
        """The last line that says something, empty where there was none."""
        lines = [*self._lines, _text(self._rest)]
        return next((line for line in reversed(lines) if line.strip()), "")

    def data_received(self, data: bytes) -> None:
        """Take in what the child wrote."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-MAX_LINE:]
        for line in lines:
            self._lines.append(_text(line))
            log.debug("server_stderr", server=self._server, line=self._lines[-1])

    def connection_lost(self, _: Exception | None) -> None:
        """The pipe ended."""
        self._ended.set()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip()[:MAX_LINE]
