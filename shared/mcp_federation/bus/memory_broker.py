"""What the buses of one process share: who listens, and the streams that are kept."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count

from mcp_federation.bus.handling import Owner, handle
from mcp_federation.bus.protocol import BatchHandler, Delivery, Stored, StoredHandler
from mcp_federation.contract.subjects import StreamSpec
from mcp_federation.errors import DeadlineExceeded
from mcp_federation.logs import get_logger

log = get_logger("bus")

BATCH = 64
RETRY_PAUSE = 0.05


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is under a pattern with NATS's wildcards `*` and `>`."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":  # noqa: S105 - a wildcard, no password
            return len(tokens) > index
        if index >= len(tokens) or token not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)


@dataclass(eq=False)
class Listener:
    """A subscription as the broker sees it: a pattern and a queue that one task empties."""

    pattern: str
    queue: str | None
    inbox: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)


@dataclass(eq=False)
class Stream:
    """What a JetStream stream keeps, and what each name of workers has still to do."""

    spec: StreamSpec
    messages: list[Stored] = field(default_factory=list)
    last_sequence: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    pending: dict[str, list[Stored]] = field(default_factory=dict)

    def append(self, subject: str, payload: bytes) -> int:
        """Keep a message; its sequence."""
        self.last_sequence += 1
        if self.spec.last_per_subject:
            self.messages = [kept for kept in self.messages if kept.subject != subject]
        stored = Stored(subject, payload, self.last_sequence)
        self.messages.append(stored)
        for waiting in self.pending.values():
            waiting.append(stored)
        self.changed.set()
        self.changed = asyncio.Event()
        return self.last_sequence

    def last(self, subject: str) -> Stored | None:
        """The last message kept on a subject."""
        return next((kept for kept in reversed(self.messages) if kept.subject == subject), None)

    def work(self, name: str) -> list[Stored]:
        """What the workers of that name have still to do."""
        return self.pending.setdefault(name, list(self.messages))


class MemoryBroker:
    """What the buses of one process share: listeners and streams."""

    def __init__(self, max_payload: int = 1024 * 1024) -> None:
        self.max_payload = max_payload
        self.listeners: list[Listener] = []
        self.streams: dict[str, Stream] = {}
        self._stream_made = asyncio.Event()
        self._turn: dict[tuple[str, str], count[int]] = defaultdict(count)

    def deliver(self, delivery: Delivery) -> bool:
        """Hand a message to every listener, and to one of each queue group; whether any was there."""
        groups: dict[tuple[str, str], list[Listener]] = defaultdict(list)
        heard = False
        for listener in self.listeners:
            if matches(listener.pattern, delivery.subject):
                heard = True
                if listener.queue is None:
                    listener.inbox.put_nowait(delivery)
                else:
                    groups[listener.pattern, listener.queue].append(listener)
        for group, members in groups.items():
            members[next(self._turn[group]) % len(members)].inbox.put_nowait(delivery)
        return heard

    def ensure_stream(self, spec: StreamSpec) -> None:
        """Have a stream with that configuration."""
        self.streams.setdefault(spec.name, Stream(spec)).spec = spec
        self._stream_made.set()
        self._stream_made = asyncio.Event()

    async def stream(self, spec: StreamSpec) -> Stream:
        """The stream, once it is there."""
        while spec.name not in self.streams:
            await self._stream_made.wait()
        return self.streams[spec.name]

    def stream_of(self, subject: str) -> Stream | None:
        """The stream that keeps a subject."""
        return next((s for s in self.streams.values() if matches(s.spec.template.every(), subject)), None)


class MemoryFollower(Owner):
    """Replays a stream in order, then follows it live."""

    def __init__(
        self,
        broker: MemoryBroker,
        spec: StreamSpec,
        handler: StoredHandler,
        subject: str | None,
        tail: int | None,
    ) -> None:
        self._broker = broker
        self._spec = spec
        self._handler = handler
        self._pattern = subject or spec.template.every()
        self._tail = tail
        self._caught_up = asyncio.Event()
        super().__init__(self._run())

    async def caught_up(self, timeout: float) -> None:
        """Wait until all that was there at the start has been handled; see `Follower.caught_up`."""
        try:
            async with asyncio.timeout(timeout):
                await self._caught_up.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"{self._spec.name} was not replayed within {timeout:g} s") from None

    async def _run(self) -> None:
        stream = await self._broker.stream(self._spec)
        handled = 0 if self._tail is None else max(0, stream.last_sequence - self._tail)
        while True:
            changed = stream.changed
            for stored in [kept for kept in stream.messages if kept.sequence > handled]:
                handled = stored.sequence
                if matches(self._pattern, stored.subject):
                    await self._handle(stored)
            if stream.last_sequence == handled or not stream.messages:
                self._caught_up.set()
                await changed.wait()

    async def _handle(self, stored: Stored) -> None:
        async def handler(_: Delivery) -> None:
            await self._handler(stored)

        await handle(handler, Delivery(stored.subject, stored.payload))


class MemoryConsumer(Owner):
    """Takes batches from what the workers of one name have still to do."""

    def __init__(self, broker: MemoryBroker, spec: StreamSpec, name: str, handler: BatchHandler) -> None:
        self._broker = broker
        self._spec = spec
        self._name = name
        self._handler = handler
        self._busy = asyncio.Lock()
        super().__init__(self._run())

    async def close(self) -> None:
        """Finish the batch at hand, then stop."""
        async with self._busy:
            await super().close()

    async def _run(self) -> None:
        stream = await self._broker.stream(self._spec)
        work = stream.work(self._name)
        while True:
            changed = stream.changed
            if not work:
                await changed.wait()
                continue
            async with self._busy:
                batch, work[:] = work[:BATCH], work[BATCH:]
                try:
                    await self._handler(batch)
                except Exception:
                    log.exception("batch_failed", stream=self._spec.name, messages=len(batch))
                    work[:0] = batch
                    await asyncio.sleep(RETRY_PAUSE)
