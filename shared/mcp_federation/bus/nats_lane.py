"""The fast lane of a NATS connection: messages go from the socket to a plain function, and out in one write.

nats-py keeps the connection itself: servers, TLS, credentials, reconnecting, JetStream. Per message it takes
a queue, task switches and several objects each way, which is most of what a call over the bus costs. So what
is received is split before nats-py reads it: messages of those subscriptions that a function takes, and all
else. And what is sent within one turn of the event loop is one write. It leans on private names of nats-py,
whose version is bounded for that reason.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport, WebSocketTransport
from nats.errors import AuthorizationError
from nats.protocol.parser import AUTHORIZATION_VIOLATION

from mcp_federation.contract.subjects import Header
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
_NAME = re.compile(r"[!-9;-~]+")
_OUR_NAMES = frozenset(value for name, value in vars(Header).items() if name.isupper())
_BLANK = "\r\n"


class LaneClient(Client):
    """A nats-py client with a fast lane beside its own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.takers: dict[bytes, Take] = {}
        """By the number of the subscription, as it stands on the wire."""

        self._gathering = False

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        if isinstance(self._transport, TcpTransport):
            _divert(self._transport, self.takers)
        elif isinstance(self._transport, WebSocketTransport):
            _divert_frames(self._transport, self.takers)

    async def _process_err(self, err_msg: str) -> None:
        """A server whose users changed turns us out, and may let us in again; nats-py would not ask."""
        if AUTHORIZATION_VIOLATION in err_msg:
            await self._process_op_err(AuthorizationError())
        else:
            await super()._process_err(err_msg)

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
        """Send a message, in order, with the others of this turn of the loop. `reply` is an inbox of ours.

        Raises:
            InvalidRequest: the subject is none.
            BusUnavailable: the connection is closed, or more waits for it to come back than may.
        """
        if not _SUBJECT.fullmatch(subject):
            raise InvalidRequest("no subject of NATS has white space")
        if headers:
            command = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(payload)}\r\n"
        else:
            command = f"PUB {subject} {reply} {len(payload)}\r\n"
        size = len(command) + len(headers) + len(payload) + 2
        if self._status != Client.CONNECTED and (
            self.is_closed or self._pending_data_size + size > self._max_pending_size
        ):
            raise BusUnavailable("the connection to NATS is down")
        self._pending += (command.encode(), headers, payload, _CRLF)
        self._pending_data_size += size
        if not self._gathering:
            # The first of a turn goes at once, as it may be the only one; those after it go together.
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._end_turn)
            self.write_pending()

    def write_pending(self) -> None:
        """Hand everything that was sent to the socket. While there is none, it stays for the next."""
        if self._pending and self._status == Client.CONNECTED and self._transport is not None:
            try:
                self._transport.write(b"".join(self._pending))
            except (OSError, RuntimeError):
                return  # uvloop says that the socket is closed, before nats-py knows: all waits for the next
            if isinstance(self._transport, WebSocketTransport):
                self._pending = []  # their size stays: nats-py's flusher goes by it
                self._wake_flusher()
            else:
                self.give_up_pending()

    def _wake_flusher(self) -> None:
        """Have what a WebSocket was given sent, which only draining it does."""
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    def give_up_pending(self) -> None:
        """Forget what waits to be sent."""
        self._pending = []
        self._pending_data_size = 0

    def _end_turn(self) -> None:
        self._gathering = False
        self.write_pending()

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

    async def _process_pong(self) -> None:
        # At one that nobody waits for any more nats-py would end its reading, and leave the connection deaf.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def take(self, subject: str, queue: str, take: Take) -> Subscription:
        """Subscribe with a plain function, which is called as a message comes.

        Raises:
            nats.errors.Error: the connection is closed.
        """
        # nats-py counts before it first waits: this will be the subscription's number.
        number = b"%d" % (self._sid + 1)
        self.takers[number] = take

        try:
            return await self.subscribe(subject, queue=queue, cb=_nothing_left)
        except BaseException:
            del self.takers[number]
            raise

    async def drained(self, subscription: Subscription) -> None:
        """End a subscription once the server sends nothing more for it, and what it sent was taken."""
        await self._send_unsubscribe(subscription._id)
        await self.round_trip(5)
        await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py leaves it untyped
        self.takers.pop(b"%d" % subscription._id, None)


def _divert(transport: TcpTransport, takers: Mapping[bytes, Take]) -> None:
    """Let a new connection's bytes come by us on their way into nats-py's stream."""
    reader, writer = transport._io_reader, transport._io_writer
    assert reader is not None and writer is not None  # noqa: S101, PT018 - for mypy: it is connected
    protocol = writer.transport.get_protocol()
    points = Points(takers, reader.feed_data)
    protocol.data_received = points.receive  # type: ignore[attr-defined]  # typed without what it can
    # Event loops keep the function itself, and look for it as the protocol is set.
    writer.transport.set_protocol(protocol)


def _divert_frames(transport: WebSocketTransport, takers: Mapping[bytes, Take]) -> None:
    """The same where bytes come in frames, and nats-py reads them itself."""
    others: list[bytes] = []
    points = Points(takers, others.append)

    async def read(buffer_size: int) -> bytes:
        while not others:
            frame: bytes = await transport.readline()  # type: ignore[no-untyped-call]  # it is not typed
            if not frame:
                return frame
            points.receive(frame)
        data = b"".join(others)
        others.clear()
        return data

    transport.read = read  # type: ignore[method-assign]  # as `data_received` above


async def _nothing_left(_: Msg) -> None:
    """What nats-py calls for a subscription with a taker: never, as the taker gets all its messages."""


class Points:
    """Splits what a connection receives: messages for takers, and all else for nats-py."""

    def __init__(self, takers: Mapping[bytes, Take], others: Callable[[bytes], None]) -> None:
        self._takers = takers
        self._others = others
        self._rest = bytearray()
        self._wanted = 0

    def receive(self, data: bytes) -> None:
        """Handle every whole message in what came so far."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
        self._wanted = 0
        at = others = 0
        try:
            while (end := data.find(_CRLF, at)) >= 0:
                if data[at] != _MSG and data[at] != _HMSG:
                    at = end + 2
                    continue
                words = data[at:end].split()
                start = end + 2
                stop = start + int(words[-1])
                if stop + 2 > len(data):
                    self._wanted = stop + 2 - at
                    break
                take = self._takers.get(words[2])
                if take is not None:
                    if others < at:
                        self._others(data[others:at])
                    others = stop + 2
                    is_plain = data[at] == _MSG
                    body = start if is_plain else start + int(words[-2])
                    reply = words[3].decode() if len(words) == (5 if is_plain else 6) else ""
                    take(words[1].decode(), reply, data[start:body], data[body:stop])
                at = stop + 2
        except (ValueError, IndexError):
            at = len(data)  # nats-py says what it thinks of that
        if others < at:
            self._others(data[others:at])
        self._rest = bytearray(data[at:])


def write_headers(headers: Mapping[str, str]) -> bytes:
    """The header block of a message.

    Raises:
        InvalidRequest: a name or a value is none that a header may have.
    """
    lines = [_HEADER_LINE]
    for name, value in headers.items():
        if name not in _OUR_NAMES and not _NAME.fullmatch(name):
            raise InvalidRequest(f"not a header: {name[:100]!r}")
        lines.append(f"{name}: {value}")
    lines.append(_BLANK)
    block = "\r\n".join(lines)
    # As many line ends as we wrote, or a value has its own.
    if block.count("\r") != len(lines) or block.count("\n") != len(lines) or "\0" in block:
        raise InvalidRequest(f"a header's value has a line end or a zero: {lines[1:-1]!r:.200}")
    return block.encode()


def read_headers(block: bytes) -> dict[str, str]:
    """The headers in a block, and under `STATUS` the server's status, where it has one."""
    lines = block.decode(errors="replace").split("\r\n")
    headers = {}
    if lines[0] != _HEADER_LINE and (status := lines[0][len(_HEADER_LINE) :].split(maxsplit=1)):
        headers[STATUS] = status[0]
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    return headers
