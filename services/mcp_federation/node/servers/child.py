"""A child process that speaks in lines over its pipes, as MCP servers over stdio do."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

KEPT_OF_TOO_LONG = 256
EXIT_TIMEOUT = 1.0
"""Seconds that a server has to end by itself once its stdin is closed, before SIGTERM asks it to: the node's
own end waits for those that heed only that."""

KILL_TIMEOUT = 2.0


class Child(asyncio.SubprocessProtocol):
    """Calls `on_line` with each line, and `on_end` once there are no more.

    A line of more than `max_line` bytes is thrown away; `on_too_long` gets its first and its last bytes.
    """

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_too_long: Callable[[bytes, bytes], None],
        on_end: Callable[[], None],
        max_line: int,
    ) -> None:
        self._on_line = on_line
        self._on_too_long = on_too_long
        self._on_end = on_end
        self._max_line = max_line
        self._buffer = bytearray()
        self._searched = 0
        self._dropped_head: bytes | None = None
        self._process: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._exited = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = False

    async def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None, stderr: Any) -> None:
        """Start the process, in a process group of its own; raises what the operating system says."""
        loop = asyncio.get_running_loop()
        self._process, _ = await loop.subprocess_exec(
            lambda: self, *argv, env=dict(env), cwd=cwd, stderr=stderr, start_new_session=True
        )
        self._stdin = cast(asyncio.WriteTransport, self._process.get_pipe_transport(0))

    def write(self, line: bytes) -> None:
        """Send a line, its line feed included; nothing where the child no longer reads."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(line)

    @property
    def is_writable(self) -> bool:
        """Whether the child keeps up with what it is sent."""
        return self._writable.is_set()

    async def writable(self) -> None:
        """Wait until it does."""
        await self._writable.wait()

    def pause_reading(self, pause: bool) -> None:
        """Stop to read what the child writes, or go on."""
        stdout = self._process.get_pipe_transport(1) if self._process else None
        if stdout is not None and not stdout.is_closing():
            reading = cast(asyncio.ReadTransport, stdout)
            (reading.pause_reading if pause else reading.resume_reading)()

    async def stop(self) -> None:
        """Close its stdin, and end the process, and those that it started, if they then go on."""
        if self._process is None:
            return
        self._end()
        self.pause_reading(False)  # what it still writes is thrown away, so that it can end
        if self._stdin is not None:
            self._stdin.close()
        if not await self._exits(EXIT_TIMEOUT):
            for signum in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.get_pid(), signum)
                if await self._exits(KILL_TIMEOUT):
                    break
        with suppress(PermissionError):  # of a child that changed its user
            self._process.close()

    async def _exits(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        return self._exited.is_set()

    def pause_writing(self) -> None:
        """The pipe is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The child reads again."""
        self._writable.set()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take in what the child wrote."""
        if self._ended:
            return
        self._buffer += data
        for head, line in self._cut():
            if self._ended:
                return
            if head is None:
                self._on_line(line)
            else:
                self._on_too_long(head, line)

    def _cut(self) -> list[tuple[bytes | None, bytes]]:
        """Take the whole lines out of the buffer: while a long one is read it is not kept there as well.

        One that was too long is its first bytes, which no other has, and its last.
        """
        lines = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            head, self._dropped_head = self._dropped_head, None
            begin = start if head is None else max(start, end - KEPT_OF_TOO_LONG)
            lines.append((head, bytes(memoryview(self._buffer)[begin:end])))
            start = self._searched = end + 1
        if start:
            del self._buffer[:start]
        self._searched = len(self._buffer)
        if self._searched > self._max_line:
            self._drop()
        return lines

    def _drop(self) -> None:
        if self._dropped_head is None:
            self._dropped_head = bytes(self._buffer[:KEPT_OF_TOO_LONG])
        del self._buffer[:-KEPT_OF_TOO_LONG]
        self._searched = len(self._buffer)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe ended: without its stdin a server is as good as gone."""
        self._writable.set()
        self._end()

    def process_exited(self) -> None:
        """The process itself has ended; its pipes may be held by its children."""
        self._exited.set()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._buffer.clear()
            self._on_end()
