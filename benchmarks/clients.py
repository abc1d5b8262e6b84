"""The load's own clients: HTTP/1.1 and framed TCP on plain asyncio protocols, as lean as Python allows.

The same HTTP client calls everything that is reached over HTTP, so that no side carries a heavier caller.
"""

import asyncio
import struct
from collections import deque
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

FRAME = struct.Struct("!I")
"""The length that goes before each message of the TCP echo."""


class Answer(NamedTuple):
    """An HTTP answer, its body joined from its chunks."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value."""
        wanted = name.lower().encode()
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == wanted:
                return value.strip().decode("latin-1")
        return None


class _HttpConnection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: uvloop's are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._needed = 0
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < self._needed or self._answer is None or self._answer.done():
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end])
        lower = head.lower()
        body = (
            self._chunked(end + 4) if b"transfer-encoding: chunked" in lower else self._sized(lower, end + 4)
        )
        if body is not None:
            self._answer.set_result(Answer(int(head[9:12]), head, body))
            self._buffer.clear()

    def _sized(self, head: bytes, start: int) -> bytes | None:
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        self._needed = start + length
        return bytes(self._buffer[start : self._needed]) if len(self._buffer) >= self._needed else None

    def _chunked(self, start: int) -> bytes | None:
        if not self._buffer.endswith(b"0\r\n\r\n"):
            return None
        parts: list[bytes] = []
        while True:
            end = self._buffer.find(b"\r\n", start)
            if end < 0:
                return None
            size = int(self._buffer[start:end], 16)
            if not size:
                return b"".join(parts)
            parts.append(bytes(self._buffer[end + 2 : end + 2 + size]))
            start = end + 4 + size


class HttpClient:
    """POSTs to one URL over as many kept connections as calls are under way."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._path = parts.path or "/"
        self._idle: list[_HttpConnection] = []
        self._all: list[_HttpConnection] = []

    def request(self, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
        """The bytes of a request, to be made once and sent often."""
        fields = {
            "Host": f"{self._host}:{self._port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {self._path} HTTP/1.1\r\n{head}\r\n".encode() + body

    async def send(self, request: bytes) -> Answer:
        """The answer to a request."""
        connection = self._take() or await self._connect()
        answer = await connection.send(request)
        self._idle.append(connection)
        return answer

    def _take(self) -> _HttpConnection | None:
        """An idle connection that the server has not closed meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def _connect(self) -> _HttpConnection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            _, connection = await loop.create_connection(_HttpConnection, self._host, self._port)
        self._all.append(connection)
        return connection

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            if connection.transport is not None:
                connection.transport.close()


class TcpEcho(asyncio.Protocol):
    """The client of the TCP echo: all calls on one connection, answered in order."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: deque[asyncio.Future[bytes]] = deque()

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Connect to the echo on this machine."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for message in frames(self._buffer):
            self._waiting.popleft().set_result(message)

    def call(self, message: bytes) -> asyncio.Future[bytes]:
        """Send a message; its echo."""
        assert self._transport is not None
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._transport.write(FRAME.pack(len(message)) + message)
        return future

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


def frames(buffer: bytearray) -> list[bytes]:
    """Take the whole messages out of a buffer of framed ones."""
    found, at = [], 0
    while len(buffer) - at >= FRAME.size:
        (size,) = FRAME.unpack_from(buffer, at)
        end = at + FRAME.size + size
        if len(buffer) < end:
            break
        found.append(bytes(buffer[at + FRAME.size : end]))
        at = end
    del buffer[:at]
    return found
