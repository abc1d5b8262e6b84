"""uvicorn's HTTP protocol with what its parser lacks: a bound on heads, and requests that offer HTTP/2."""

from typing import Any, Final

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers; what came with them in one read is let through."""

_REFUSAL = b'{"type":"about:blank","title":"Request Header Fields Too Large","status":431}'
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_REFUSAL), _REFUSAL)
)


class HttpProtocol(HttpToolsProtocol):
    """Refuses a request whose head goes on and on, before anything is made of it.

    An offer to go on in another protocol (RFC 9110, 7.8), as Java's client makes in each request, is declined
    by answering the request. The parser would take all behind the head, and so the body, for that protocol.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._in_head = True
        self._head = 0
        """Bytes of the reads that a head took for itself so far."""

        self._went_on = False
        """Whether a head or a body came to its end in this read."""

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._went_on = False
        super().data_received(data)
        if self._in_head and not self._went_on:
            self._head += len(data)
            if self._head > MAX_HEAD and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is over."""
        if self.offers_upgrade:
            return
        self._in_head, self._went_on = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head begins."""
        if self.offers_upgrade:
            return
        self._in_head, self._went_on, self._head = True, True, 0
        super().on_message_complete()

    @property
    def offers_upgrade(self) -> bool:
        """Whether the request whose head was read last offers another protocol."""
        return self.parser.should_upgrade() and any(name == b"upgrade" for name, _ in self.headers)

    def head_without_offer(self) -> bytes:
        """That head again, as if nothing were offered."""
        version = self.parser.get_http_version().encode()
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
        headers = (b"%b: %b" % header for header in self.headers if header[0] != b"upgrade")
        return b"\r\n".join((line, *headers, b"\r\n"))


class _Parser(HttpRequestParser):
    """Reads a request that offers another protocol once more, without the offer."""

    def __init__(self, protocol: HttpProtocol) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        """Read on: `data` are bytes."""
        while data:
            try:
                super().feed_data(data)
            except HttpParserUpgrade as upgrade:
                if not self._protocol.offers_upgrade:
                    raise
                data = self._protocol.head_without_offer() + data[upgrade.args[0] :]
            else:
                return
