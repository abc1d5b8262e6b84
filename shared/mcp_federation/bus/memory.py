"""The bus inside one process: the same protocol over plain data, for tests and for embedding.

A `MemoryBroker` stands for the server; every `MemoryBus` made on it is one connection.
"""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Self

from mcp_federation.bus.handling import Owner, Subscriptions, Tasks, answer, error_answer, handle, overloaded
from mcp_federation.bus.memory_broker import Listener, MemoryBroker, MemoryConsumer, MemoryFollower
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
from mcp_federation.contract.subjects import Header, StreamSpec
from mcp_federation.errors import BusUnavailable, Conflict, DeadlineExceeded, NodeUnavailable, PayloadTooLarge


class MemoryBus:
    """A `Bus` on a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()
        self._open = Subscriptions()
        self._inbox_number = count()
        self._closed = False

    @property
    def max_payload(self) -> int:
        """The most bytes that payload and headers may have together."""
        return self.broker.max_payload

    @property
    def connected(self) -> bool:
        """Whether the bus is open."""
        return not self._closed

    async def publish(self, subject: str, payload: bytes, headers: Headers | None = None) -> None:
        """Send an event; see `Bus.publish`."""
        self._check(payload, headers)
        delivery = Delivery(subject, bytes(payload), dict(headers or {}))
        self.broker.deliver(delivery)
        stream = self.broker.stream_of(subject)
        if stream is not None:
            stream.append(subject, delivery.payload)

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: Headers | None = None,
        on_interim: Interim | None = None,
    ) -> Delivery:
        """Send a request and wait for its first answer; see `Bus.request`."""
        self._check(payload, headers)
        inbox = Listener(self.new_inbox(), None)
        self.broker.listeners.append(inbox)
        try:
            if not self.broker.deliver(Delivery(subject, bytes(payload), dict(headers or {}), inbox.pattern)):
                raise NodeUnavailable("nobody answers there")
            async with asyncio.timeout(timeout):
                while Header.INTERIM in (delivery := await inbox.inbox.get()).headers:
                    if on_interim is not None:
                        on_interim(delivery)
                return delivery
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {timeout:g} s") from None
        finally:
            self.broker.listeners.remove(inbox)

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str | None = None, limit: int = 256
    ) -> Subscription:
        """Handle every message on a subject; see `Bus.subscribe`."""
        tasks = Tasks(limit)

        async def on_message(delivery: Delivery) -> None:
            await tasks.room()
            tasks.spawn(handle(handler, delivery))

        return self._listen(Listener(subject, queue), on_message, tasks)

    async def respond(
        self, subject: str, responder: Responder, *, queue: str | None = None, limit: int = 256
    ) -> Subscription:
        """Answer requests on a subject; see `Bus.respond`."""
        tasks = Tasks(limit)

        async def work(delivery: Delivery) -> None:
            reply = await answer(responder, delivery)
            if reply is not None:
                self._reply(delivery, reply)

        async def on_message(delivery: Delivery) -> None:
            if tasks.full:
                self._reply(delivery, overloaded())
            else:
                tasks.spawn(handle(work, delivery))

        return self._listen(Listener(subject, queue), on_message, tasks)

    async def hand_on(self, delivery: Delivery, headers: Headers) -> None:
        """Send a request on; see `Bus.hand_on`."""
        self._check(delivery.payload, headers)
        self.broker.deliver(Delivery(delivery.subject, delivery.payload, dict(headers), delivery.reply))

    def new_inbox(self) -> str:
        """A subject that is this connection's alone; see `Bus.new_inbox`."""
        return f"_INBOX.{id(self)}.{next(self._inbox_number)}"

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Have a stream with that configuration; see `Bus.ensure_stream`."""
        self.broker.ensure_stream(spec)

    async def store(self, subject: str, payload: bytes, *, expect: int | None = None) -> int:
        """Publish into the stream that keeps the subject; see `Bus.store`."""
        self._check(payload, None)
        stream = self.broker.stream_of(subject)
        if stream is None:
            raise BusUnavailable("no stream keeps the message")
        last = stream.last(subject)
        if expect is not None and expect != (last.sequence if last else 0):
            raise Conflict("the last message on the subject is another one")
        self.broker.deliver(Delivery(subject, bytes(payload)))
        return stream.append(subject, bytes(payload))

    async def last(self, stream: StreamSpec, subject: str) -> Stored | None:
        """The last message that the stream keeps on a subject; see `Bus.last`."""
        if stream.name not in self.broker.streams:
            raise BusUnavailable(f"the stream {stream.name} does not answer")
        return self.broker.streams[stream.name].last(subject)

    async def follow(
        self,
        stream: StreamSpec,
        handler: StoredHandler,
        *,
        subject: str | None = None,
        tail: int | None = None,
        on_anew: Anew | None = None,
    ) -> Follower:
        """Replay a stream, then follow it live; see `Bus.follow`. Memory loses no stream."""
        return self._open.add(MemoryFollower(self.broker, stream, handler, subject, tail))

    async def consume(
        self, stream: StreamSpec, name: str, handler: BatchHandler, *, on_anew: Anew | None = None
    ) -> Subscription:
        """Work through a stream once for all workers of that name; see `Bus.consume`."""
        return self._open.add(MemoryConsumer(self.broker, stream, name, handler))

    async def flush(self, timeout: float = 5.0) -> None:
        """Nothing is ever on its way."""

    async def close(self) -> None:
        """Finish what is being handled, within a bound, and disconnect."""
        await self._open.close()
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _listen(self, listener: Listener, on_message: Handler, tasks: Tasks) -> Subscription:
        self.broker.listeners.append(listener)
        return self._open.add(_MemorySubscription(self.broker, listener, on_message, tasks))

    def _reply(self, delivery: Delivery, reply: Reply) -> None:
        if not delivery.reply:
            return
        try:
            self._check(reply.payload, reply.headers)
        except PayloadTooLarge as error:
            reply = error_answer(error)
        self.broker.deliver(Delivery(delivery.reply, reply.payload, dict(reply.headers)))

    def _check(self, payload: bytes, headers: Headers | None) -> None:
        if self._closed:
            raise BusUnavailable("the bus is closed")
        size = len(payload)
        size += sum(len(key) + len(value.encode()) + 4 for key, value in (headers or {}).items())
        if size > self.max_payload:
            raise PayloadTooLarge(
                f"{size} bytes exceed the {self.max_payload} that a message may have",
                {"size": size, "limit": self.max_payload},
            )


class _MemorySubscription(Owner):
    def __init__(self, broker: MemoryBroker, listener: Listener, on_message: Handler, tasks: Tasks) -> None:
        self._broker = broker
        self._listener = listener
        self._on_message = on_message
        self._tasks = tasks
        super().__init__(self._run())

    async def _run(self) -> None:
        while True:
            await self._on_message(await self._listener.inbox.get())
            self._listener.inbox.task_done()

    async def close(self) -> None:
        if self._listener in self._broker.listeners:
            self._broker.listeners.remove(self._listener)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._listener.inbox.join(), 5)
        await super().close()
        await self._tasks.finish()
