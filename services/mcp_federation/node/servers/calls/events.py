"""Takes a stream of server-sent events apart (WHATWG HTML, section 9.2). Pure."""


class TooLong(Exception):
    """An event is over the bound."""


class EventStream:
    """Gives the data of each message; ids, retry times, and events of other names are of no use here."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._ended_in_cr = False
        self._event = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the messages that the chunk completes.

        Raises:
            TooLong: an event is over the bound in bytes.
        """
        self._buffer += self._with_plain_ends(chunk)
        messages: list[bytes] = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            line = bytes(memoryview(self._buffer)[start:end])
            start = end + 1
            self._line(line, messages)
        if start:
            del self._buffer[:start]
        self._searched = len(self._buffer)
        if self._searched + sum(map(len, self._data)) > self._limit:
            raise TooLong
        return messages

    def _with_plain_ends(self, chunk: bytes) -> bytes:
        """A line ends in LF, CR, or both, between which a chunk may end."""
        if self._ended_in_cr:
            chunk = chunk.removeprefix(b"\n")
        self._ended_in_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _line(self, line: bytes, messages: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            self._event = line[6:].removeprefix(b" ")
        elif not line:
            data = b"\n".join(self._data) if len(self._data) != 1 else self._data[0]
            # Without data it primes a stream that can be resumed.
            if data and self._event in (b"", b"message"):
                messages.append(data)
            self._event, self._data = b"", []
