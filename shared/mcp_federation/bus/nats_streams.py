"""Reading JetStream streams: follow one (each reader sees all), or consume it (workers share it)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from secrets import token_hex

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext

from mcp_federation.bus.handling import Owner
from mcp_federation.bus.protocol import Anew, BatchHandler, Stored, StoredHandler
from mcp_federation.contract.subjects import StreamSpec
from mcp_federation.errors import DeadlineExceeded, FederationError
from mcp_federation.logs import get_logger

log = get_logger("bus")

HEARTBEAT = 1.0
"""Seconds between the server's signs of life on a quiet stream; two missed, and we start over."""

INACTIVE = 30.0
BATCH = 64
FETCH_TIMEOUT = 5.0
ACK_WAIT = 30.0
RETRY_PAUSE = 0.5


class _Gap(Exception):
    """A message is missing, or the server fell silent: start over behind the last one handled."""


_FAULTS = (_Gap, nats.errors.Error, nats.js.errors.Error, FederationError, TimeoutError, OSError)


class _Lineage:
    """Tells whether a stream is still the one that was read before."""

    def __init__(self, js: JetStreamContext, stream: StreamSpec, on_anew: Anew | None) -> None:
        self._js = js
        self._stream = stream
        self._on_anew = on_anew
        self._created = ""

    async def look(self, handled: int = 0) -> tuple[int, bool]:
        """The stream's last sequence, and whether it began anew since `handled` was read of it."""
        info = await self._js.stream_info(self._stream.name)
        last, created = info.state.last_seq, str(info.created)
        began_anew = last < handled or self._created not in ("", created)
        if began_anew:
            log.warn("stream_began_anew", stream=self._stream.name)
            if self._on_anew is not None:
                await self._on_anew()
        self._created = created
        return last, began_anew


class NatsFollower(Owner):
    """Replays a stream in order, then follows it live.

    An ephemeral push consumer without acknowledgements: its numbering shows a gap, its heartbeat a
    silence, and either makes a new one start behind the last message that was handled.
    """

    def __init__(
        self,
        connection: Client,
        js: JetStreamContext,
        stream: StreamSpec,
        handler: StoredHandler,
        *,
        subject: str | None,
        tail: int | None,
        on_anew: Anew | None,
        on_missing: Callable[[], None],
    ) -> None:
        self._nc = connection
        self._js = js
        self._stream = stream
        self._handler = handler
        self._subject = subject
        self._tail = tail
        self._handled = 0
        self._lineage = _Lineage(js, stream, on_anew)
        self._missing = False
        self._caught_up = asyncio.Event()
        super().__init__(_for_ever(self._follow, self._stream, on_missing))

    async def caught_up(self, timeout: float) -> None:
        """Wait until all that was there at the start has been handled; see `Follower.caught_up`."""
        try:
            async with asyncio.timeout(timeout):
                await self._caught_up.wait()
        except TimeoutError:
            why = ": the NATS server has no such stream" if self._missing else ""
            raise DeadlineExceeded(
                f"{self._stream.name} was not replayed within {timeout:g} s{why}"
            ) from None

    async def _follow(self) -> None:
        inbox = self._nc.new_inbox()
        sub = await self._nc.subscribe(inbox, pending_msgs_limit=0, pending_bytes_limit=0)
        consumer = ""
        try:
            info = await self._js.add_consumer(self._stream.name, await self._config(inbox))
            consumer = info.name or ""
            if not info.num_pending:
                self._caught_up.set()
            await self._read(sub)
        finally:
            with suppress(nats.errors.Error):
                await sub.unsubscribe()
            if consumer and self._nc.is_connected:
                with suppress(*_FAULTS):
                    await self._js.delete_consumer(self._stream.name, consumer)

    async def _config(self, inbox: str) -> ConsumerConfig:
        try:
            last, began_anew = await self._lineage.look(self._handled)
        except nats.js.errors.NotFoundError:
            self._missing = True
            raise
        self._missing = False
        if began_anew:
            self._handled = 0
        start = self._handled + 1
        if self._tail is not None:
            start = max(start, last - self._tail + 1)
        return ConsumerConfig(
            # With a name the request's subject tells what is read, so that permissions can be about that.
            name=token_hex(11),
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if start > 1 else DeliverPolicy.ALL,
            opt_start_seq=start if start > 1 else None,
            filter_subject=self._subject,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=HEARTBEAT,
            inactive_threshold=INACTIVE,
            mem_storage=True,
            num_replicas=1,
        )

    async def _read(self, sub: NatsSubscription) -> None:
        expected = 1
        while True:
            try:
                msg = await sub.next_msg(timeout=2 * HEARTBEAT + 1)
            except nats.errors.TimeoutError:
                raise _Gap from None
            if msg.headers and msg.headers.get("Status"):
                await self._control(msg, expected)
                continue
            sequence = msg.metadata.sequence
            if sequence.consumer != expected:
                raise _Gap
            expected += 1
            await self._handle(Stored(msg.subject, msg.data, sequence.stream))
            if not msg.metadata.num_pending:
                self._caught_up.set()

    async def _control(self, msg: Msg, expected: int) -> None:
        if msg.reply:  # flow control: the server waits for this before it sends more
            await self._nc.publish(msg.reply)
            return
        headers = msg.headers or {}
        if stalled := headers.get("Nats-Consumer-Stalled"):
            await self._nc.publish(stalled)
        last = headers.get("Nats-Last-Consumer")
        if last is not None and int(last) >= expected:
            raise _Gap

    async def _handle(self, stored: Stored) -> None:
        self._handled = stored.sequence
        try:
            await self._handler(stored)
        except FederationError as error:
            log.warn("message_refused", subject=stored.subject, code=error.code, reason=error.message)
        except Exception:
            log.exception("handler_failed", subject=stored.subject)


class NatsConsumer(Owner):
    """Takes batches of a stream through one durable pull consumer that all workers of a name share."""

    def __init__(
        self,
        js: JetStreamContext,
        stream: StreamSpec,
        name: str,
        handler: BatchHandler,
        on_anew: Anew | None,
        on_missing: Callable[[], None],
    ) -> None:
        self._js = js
        self._lineage = _Lineage(js, stream, on_anew)
        self._stream = stream
        self._name = name
        self._handler = handler
        self._busy = asyncio.Lock()
        super().__init__(_for_ever(self._consume, self._stream, on_missing))

    async def close(self) -> None:
        """Finish the batch at hand, then stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ACK_WAIT), self._busy:
                await super().close()
        await super().close()

    async def _consume(self) -> None:
        await self._lineage.look()
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT, max_ack_pending=16 * BATCH)
        subject = self._stream.template.every()
        pull = await self._js.pull_subscribe(subject, self._name, stream=self._stream.name, config=config)
        try:
            while True:
                try:
                    batch = await pull.fetch(BATCH, timeout=FETCH_TIMEOUT)
                except nats.errors.TimeoutError:
                    continue
                async with self._busy:
                    await self._handle(batch)
        finally:
            with suppress(nats.errors.Error):
                await pull.unsubscribe()

    async def _handle(self, batch: list[Msg]) -> None:
        try:
            await self._handler([Stored(m.subject, m.data, m.metadata.sequence.stream) for m in batch])
        except Exception:
            log.exception("batch_failed", stream=self._stream.name, messages=len(batch))
            for msg in batch:
                await msg.nak(delay=1)
            return
        for msg in batch:
            await msg.ack()


async def _for_ever(
    work: Callable[[], Awaitable[None]], stream: StreamSpec, on_missing: Callable[[], None]
) -> None:
    """Start `work` over whatever NATS may raise: a restart, a stream that is not there (yet, or any more)."""
    while True:
        try:
            await work()
        except _FAULTS as error:
            log.debug("stream_retry", stream=stream.name, reason=f"{type(error).__name__}: {error}")
            if isinstance(error, nats.js.errors.NotFoundError):
                on_missing()
            await asyncio.sleep(random.uniform(0.05, RETRY_PAUSE))  # noqa: S311 - jitter, no secret
