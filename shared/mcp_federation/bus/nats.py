"""The bus over NATS: core subjects for events and request-reply, JetStream for what is kept."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from math import ceil
from typing import Any, Self

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from mcp_federation.bus.handling import Subscriptions, Tasks, answer, error_answer, handle, overloaded
from mcp_federation.bus.nats_connection import ConnectionWatch, open_connection
from mcp_federation.bus.nats_ensured import EnsuredStreams
from mcp_federation.bus.nats_lane import LaneClient, read_headers, write_headers
from mcp_federation.bus.nats_requests import Requests
from mcp_federation.bus.nats_streams import NatsConsumer, NatsFollower
from mcp_federation.bus.protocol import (
    Anew,
    BatchHandler,
    Delivery,
    Follower,
    Handler,
    Headers,
    Interim,
    Reply,
    Responder,
    Stored,
    StoredHandler,
    Subscription,
)
from mcp_federation.contract.subjects import StreamSpec
from mcp_federation.errors import (
    BusUnavailable,
    Conflict,
    ConnectionLost,
    DeadlineExceeded,
    FederationError,
    NodeUnavailable,
    PayloadTooLarge,
)
from mcp_federation.logs import get_logger

log = get_logger("bus")

CONNECT_TIMEOUT = 5.0
STORE_TIMEOUT = 5.0
PENDING_MESSAGES = 65_536
PENDING_BYTES = 256 * 1024 * 1024

_WRONG_LAST_SEQUENCE = 10071
_OVERLOADED = overloaded()
_OVERLOADED_HEADERS = write_headers(_OVERLOADED.headers)


class _ApiError(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    seq: int = 0
    error: _ApiError | None = None


class NatsBus:
    """A `Bus` over one NATS connection. Make it with `connect`."""

    def __init__(self, connection: LaneClient, watch: ConnectionWatch) -> None:
        self._nc = connection
        self._watch = watch
        self._js = connection.jetstream(timeout=STORE_TIMEOUT)
        self._open = Subscriptions()
        self._requests = Requests(connection.new_inbox())
        self._streams = EnsuredStreams(self._js, lambda: self.connected)
        watch.on_dropped = self._requests.fail
        watch.on_returned = self._streams.restore

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        name: str = "",
        timeout: float = CONNECT_TIMEOUT,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Self:
        """Connect to one or more servers (`nats://host:port`, comma separated).

        `on_lost` is called when the connection is over for good, as by a server that no longer lets us in.

        Raises:
            BusUnavailable: none of them answers within `timeout` seconds.
        """
        connection, watch = await open_connection(url, name, timeout, on_lost)
        bus = cls(connection, watch)
        await connection.take(bus._requests.subject, "", bus._requests.take)
        return bus

    @property
    def max_payload(self) -> int:
        """The most bytes that payload and headers may have together."""
        return self._nc.max_payload

    @property
    def connected(self) -> bool:
        """Whether a server is reached right now."""
        return self._nc.is_connected

    async def publish(self, subject: str, payload: bytes, headers: Headers | None = None) -> None:
        """Send an event; see `Bus.publish`."""
        await self._send(subject, payload, headers, "")

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: Headers | None = None,
        on_interim: Interim | None = None,
    ) -> Delivery:
        """Send a request and wait for its answer; see `Bus.request`."""
        if not self._nc.is_connected:
            raise BusUnavailable("the connection to NATS is down")
        send = partial(self._send, subject, payload, headers)
        return await self._requests.answer(send, timeout, on_interim)

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str | None = None, limit: int = 256
    ) -> Subscription:
        """Handle every message on a subject; see `Bus.subscribe`."""
        tasks = Tasks(limit)

        async def on_message(msg: Msg) -> None:
            await tasks.room()
            tasks.spawn(handle(handler, _delivery(msg)))

        subscribing = self._nc.subscribe(
            subject,
            queue=queue or "",
            cb=on_message,
            pending_msgs_limit=PENDING_MESSAGES,
            pending_bytes_limit=PENDING_BYTES,
        )
        return await self._subscribed(subscribing, tasks)

    async def respond(
        self, subject: str, responder: Responder, *, queue: str | None = None, limit: int = 256
    ) -> Subscription:
        """Answer requests on a subject; see `Bus.respond`."""
        tasks = Tasks(limit)

        def take(subject: str, reply: str, block: bytes, payload: bytes) -> None:
            if tasks.full:
                self._refuse(reply)
            else:
                delivery = Delivery(subject, payload, read_headers(block) if block else {}, reply or None)
                tasks.spawn(self._answer(responder, delivery))

        return await self._subscribed(self._nc.take(subject, queue or "", take), tasks)

    def _refuse(self, reply: str) -> None:
        if reply:
            with suppress(FederationError):  # the connection is down, or the caller's inbox is none
                self._nc.send(reply, "", _OVERLOADED_HEADERS, _OVERLOADED.payload)

    async def _answer(self, responder: Responder, delivery: Delivery) -> None:
        reply = await answer(responder, delivery)
        if reply is not None and delivery.reply:
            try:
                await self._reply(delivery.reply, reply)
            except FederationError as error:
                log.warn("answer_lost", subject=delivery.subject, code=error.code, reason=error.message)

    async def hand_on(self, delivery: Delivery, headers: Headers) -> None:
        """Send a request on; see `Bus.hand_on`."""
        await self._send(delivery.subject, delivery.payload, headers, delivery.reply or "")

    def new_inbox(self) -> str:
        """A subject that is this connection's alone; see `Bus.new_inbox`."""
        return self._nc.new_inbox()

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Have a stream with that configuration; see `Bus.ensure_stream`."""
        await self._streams.ensure(spec)

    async def store(self, subject: str, payload: bytes, *, expect: int | None = None) -> int:
        """Publish into the stream that keeps the subject; see `Bus.store`."""
        headers = {} if expect is None else {"Nats-Expected-Last-Subject-Sequence": str(expect)}
        try:
            delivery = await self.request(subject, payload, timeout=STORE_TIMEOUT, headers=headers)
            ack = msgspec.json.decode(delivery.payload, type=_PubAck)
        except (NodeUnavailable, DeadlineExceeded, ConnectionLost, msgspec.DecodeError) as error:
            self._streams.restore()
            raise BusUnavailable("no stream keeps the message") from error
        if ack.error is not None:
            if ack.error.err_code == _WRONG_LAST_SEQUENCE:
                raise Conflict("the last message on the subject is another one")
            raise BusUnavailable("the stream refused the message")
        return ack.seq

    async def last(self, stream: StreamSpec, subject: str) -> Stored | None:
        """The last message that the stream keeps on a subject; see `Bus.last`."""
        try:
            msg = await self._js.get_last_msg(stream.name, subject, direct=True)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"the stream {stream.name} does not answer") from error
        return Stored(subject, msg.data or b"", msg.seq or 0)

    async def follow(
        self,
        stream: StreamSpec,
        handler: StoredHandler,
        *,
        subject: str | None = None,
        tail: int | None = None,
        on_anew: Anew | None = None,
    ) -> Follower:
        """Replay a stream, then follow it live; see `Bus.follow`."""
        follower = NatsFollower(
            self._nc,
            self._js,
            stream,
            handler,
            subject=subject,
            tail=tail,
            on_anew=on_anew,
            on_missing=self._streams.restore,
        )
        return self._open.add(follower)

    async def consume(
        self, stream: StreamSpec, name: str, handler: BatchHandler, *, on_anew: Anew | None = None
    ) -> Subscription:
        """Work through a stream once for all workers of that name; see `Bus.consume`."""
        return self._open.add(NatsConsumer(self._js, stream, name, handler, on_anew, self._streams.restore))

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until everything published so far has reached the server."""
        try:
            async with asyncio.timeout(timeout):
                await self._nc.round_trip(max(1, ceil(timeout)))
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable("the NATS server does not answer") from error

    async def close(self) -> None:
        """Finish what is being handled, within a bound, and disconnect."""
        self._watch.expected = True
        await self._streams.close()
        await self._open.close()
        with suppress(BusUnavailable):
            if self._nc.is_connected:
                await self.flush(2)
        with suppress(nats.errors.Error, TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(5):
                try:
                    await self._nc.close()
                except (OSError, RuntimeError, TypeError, AttributeError):
                    # nats-py stops half-way when data is left for a socket that broke: without the data a
                    # second close, which it must not take for done, goes through. (TypeError is what
                    # asyncio's own loop says of such a socket since Python 3.12; AttributeError a WebSocket.)
                    self._nc.give_up_pending()
                    self._nc._status = Client.DISCONNECTED
                    await self._nc.close()
        self._requests.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _subscribed(
        self, subscribing: Coroutine[Any, Any, NatsSubscription], tasks: Tasks
    ) -> Subscription:
        try:
            sub = await subscribing
        except nats.errors.Error as error:
            raise BusUnavailable("the connection to NATS is down") from error
        return self._open.add(_Subscription(self._nc, sub, tasks))

    async def _reply(self, subject: str, reply: Reply) -> None:
        try:
            await self._send(subject, reply.payload, reply.headers, "")
        except PayloadTooLarge as error:
            too_large = error_answer(error)
            await self._send(subject, too_large.payload, too_large.headers, "")

    async def _send(self, subject: str, payload: bytes, headers: Headers | None, reply: str) -> None:
        block = write_headers(headers) if headers else b""
        size = len(block) + len(payload)
        if size > self._nc.max_payload:
            # The server would cut the connection, and the client would not come back.
            raise PayloadTooLarge(
                f"{size} bytes exceed the {self._nc.max_payload} that a message may have",
                {"size": size, "limit": self._nc.max_payload},
            )
        self._nc.send(subject, reply, block, payload)
        if self._nc.congested:
            with suppress(OSError):  # it broke: what is left waits for the next connection
                await self._nc.drain_socket()


class _Subscription:
    """A NATS subscription and its running handlers."""

    def __init__(self, connection: LaneClient, sub: NatsSubscription, tasks: Tasks) -> None:
        self._nc = connection
        self._sub = sub
        self._tasks = tasks
        self.closed = False

    async def close(self) -> None:
        """Stop taking messages, and wait until those taken are handled."""
        if self.closed:
            return
        self.closed = True
        with suppress(nats.errors.Error, TimeoutError, OSError):
            # Drained rather than cut: what the server has already sent us is still handled.
            async with asyncio.timeout(5):
                await self._nc.drained(self._sub)
        await self._tasks.finish()


def _delivery(msg: Msg) -> Delivery:
    return Delivery(msg.subject, msg.data, msg.headers or {}, msg.reply or None)
