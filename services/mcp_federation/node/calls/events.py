"""Takes a stream of server-sent events apart (WHATWG HTML, section 9.2). Pure."""


class TooLong(Exception):
    """An event is over the bound."""


class EventStream:
    """Gives the data of each event; its name, id and retry time are of no use here."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that the chunk completes.

        Raises:
            TooLong: an event is over the bound in bytes.
        """
        self._buffer += chunk
        events: list[bytes] = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            line = bytes(memoryview(self._buffer)[start:end]).removesuffix(b"\r")
            start = end + 1
            self._line(line, events)
        if start:
            del self._buffer[:start]
        self._searched = len(self._buffer)
        if self._searched + sum(map(len, self._data)) > self._limit:
            raise TooLong
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            events.append(b"\n".join(self._data) if len(self._data) > 1 else self._data[0])
            self._data = []
