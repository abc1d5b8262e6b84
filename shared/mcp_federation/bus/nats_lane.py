"""The fast lane of a NATS connection: messages go from the parser to a plain function, and out in one write.

nats-py keeps the connection itself: servers, TLS, credentials, reconnecting, JetStream. Per message it takes
a queue, a task switch and several objects each way, which is most of what a call over the bus costs. So the
parser is ours, for those subscriptions that a function takes; and what is sent within one turn of the event
loop is one write. It leans on private names of nats-py, whose version is pinned for that reason.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from mcp_federation.errors import BusUnavailable, InvalidRequest

Take = Callable[[str, str, bytes, bytes], None]
"""Takes subject, reply subject, header block and payload of a message. It must not raise."""

CONGESTED: Final = 1024 * 1024
"""Bytes that may wait for the socket before senders do."""

STATUS: Final = "Status"

_HEADER_LINE = "NATS/1.0"
_CRLF = b"\r\n"
_MSG, _HMSG = b"MH"
_SUBJECT = re.compile(r"[^\s\x00]+")
_HEADER = re.compile(r"[!-9;-~]+: [^\r\n\x00]*")


class LaneClient(Client):
    """A nats-py client with a fast lane beside its own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.takers: dict[int, Take] = {}
        self._ps = _LaneParser(self)
        self._write_is_due = False

    @property
    def congested(self) -> bool:
        """Whether so much waits for the socket that a sender should `drain` before it sends more."""
        return self._pending_data_size > CONGESTED or self._unsent > CONGESTED

    @property
    def _unsent(self) -> int:
        transport = self._transport
        if not isinstance(transport, TcpTransport) or transport._io_writer is None:
            return 0
        return int(transport._io_writer.transport.get_write_buffer_size())

    def send(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        """Send a message with all others of this turn of the loop; order is kept.

        Raises:
            InvalidRequest: a subject is none.
            BusUnavailable: the connection is closed, or more waits for it to come back than may.
        """
        if not _SUBJECT.fullmatch(subject) or (reply and not _SUBJECT.fullmatch(reply)):
            raise InvalidRequest("no subject of NATS has white space")
        if headers:
            command = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(payload)}\r\n"
        else:
            command = f"PUB {subject} {reply} {len(payload)}\r\n"
        pieces = (command.encode(), headers, payload, _CRLF)
        size = sum(map(len, pieces))
        if self._status != Client.CONNECTED and (
            self.is_closed or self._pending_data_size + size > self._max_pending_size
        ):
            raise BusUnavailable("the connection to NATS is down")
        self._pending.extend(pieces)
        self._pending_data_size += size
        if not self._write_is_due:
            self._write_is_due = True
            asyncio.get_running_loop().call_soon(self.write_pending)

    def write_pending(self) -> None:
        """Hand everything that was sent to the socket. While there is none, it stays for the next."""
        self._write_is_due = False
        if self._pending and self._status == Client.CONNECTED and self._transport is not None:
            pending, self._pending = self._pending, []
            self._pending_data_size = 0
            self._transport.write(b"".join(pending))

    async def drain_socket(self) -> None:
        """Wait until the socket has taken most of what was sent."""
        self.write_pending()
        if self._transport is not None:
            await self._transport.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it untyped

    async def round_trip(self, timeout: int) -> None:
        """Wait until the server has handled all that was sent, and we all that it had sent before."""
        # nats-py writes its PING past what is pending.
        self.write_pending()
        await self.flush(timeout)

    async def take(self, subject: str, queue: str, take: Take) -> Subscription:
        """Subscribe with a plain function, which is called from the parser.

        Raises:
            nats.errors.Error: the connection is closed.
        """
        # nats-py counts before it first waits: this will be the subscription's number.
        number = self._sid + 1
        self.takers[number] = take
        try:
            return await self.subscribe(subject, queue=queue, cb=_nothing_is_left)
        except BaseException:
            del self.takers[number]
            raise

    async def drained(self, subscription: Subscription) -> None:
        """End a subscription once the server sends nothing more for it, and what it sent was taken."""
        await self._send_unsubscribe(subscription._id)
        await self.round_trip(5)
        await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it untyped
        self.takers.pop(subscription._id, None)


async def _nothing_is_left(msg: Msg) -> None:
    """The parser gave all messages to the taker."""


class _LaneParser(Parser):
    """nats-py's parser, with takers served before its own subscriptions."""

    nc: LaneClient

    def reset(self) -> None:
        """Forget what came of a message: the connection is a new one."""
        self.buf = bytearray()
        self._wanted = 0
        self._connection = getattr(self, "_connection", 0) + 1

    async def parse(self, data: bytes = b"") -> None:
        """Handle every whole message in what came so far.

        Raises:
            ProtocolError: this is not NATS.
        """
        if self.buf:
            self.buf += data
            if len(self.buf) < self._wanted:
                return
            data = bytes(self.buf)
        connection = self._connection
        at = 0
        try:
            while (end := data.find(_CRLF, at)) >= 0:
                if data[at] == _MSG or data[at] == _HMSG:
                    after = self._message(data, at, end)
                    if after is None:
                        break
                    if type(after) is not int:
                        await self.nc._process_msg(*after[1:])
                        after = after[0]
                    at = after
                else:
                    await self._control(data[at:end])
                    at = end + 2
                if self._connection != connection:
                    return
        except (ValueError, IndexError) as error:
            raise ProtocolError("nats: malformed message") from error
        self.buf = bytearray(data[at:])

    def _message(self, data: bytes, at: int, end: int) -> Any:
        """Where the next begins, with what `_process_msg` takes if it is nats-py's; None: not all there."""
        words = data[at:end].split()
        size = int(words[-1])
        start = end + 2
        stop = start + size
        if stop + 2 > len(data):
            self._wanted = stop + 2 - at
            return None
        if data[at] == _MSG:
            body, reply = start, words[3] if len(words) == 5 else b""
        else:
            body, reply = start + int(words[-2]), words[3] if len(words) == 6 else b""
        sid = int(words[2])
        take = self.nc.takers.get(sid)
        if take is None:
            return stop + 2, sid, words[1], reply, data[body:stop], data[start:body]
        take(words[1].decode(), reply.decode(), data[start:body], data[body:stop])
        return stop + 2

    async def _control(self, line: bytes) -> None:
        word = line[:4].upper()
        if word == b"PING":
            await self.nc._process_ping()
        elif word == b"PONG":
            await self.nc._process_pong()
        elif word == b"-ERR":
            await self.nc._process_err(line[4:].strip().decode().lower())
        elif word == b"INFO":
            await self.nc._process_info(msgspec.json.decode(line[4:]))
        elif word[:3] != b"+OK":
            raise ProtocolError("nats: unknown protocol")


def write_headers(headers: Mapping[str, str]) -> bytes:
    """The header block of a message.

    Raises:
        InvalidRequest: a name or a value is none that a header may have.
    """
    lines = [f"{name}: {value}" for name, value in headers.items()]
    for line in lines:
        if not _HEADER.fullmatch(line):
            raise InvalidRequest(f"not a header: {line[:100]!r}")
    return "\r\n".join([_HEADER_LINE, *lines, "\r\n"]).encode()


def read_headers(block: bytes) -> dict[str, str]:
    """The headers in a block, and under `STATUS` the server's status, where it has one."""
    first, *lines = block.decode(errors="replace").split("\r\n")
    headers = {}
    if status := first[len(_HEADER_LINE) :].split(maxsplit=1):
        headers[STATUS] = status[0]
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    return headers
