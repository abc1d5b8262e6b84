"""Payloads that do not fit one message: their sender keeps them, and the receiver pulls them in chunks.

A receiver has a few requests under way and no more, so that a payload is sent no faster than it is taken and
leaves the connection to other messages in between. Where too much is under way, at either end, the next waits
for its turn. The wire is described in `contract.channels`.
"""

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from mcp_federation.bus.protocol import Bus, Delivery, Reply, Subscription
from mcp_federation.bus.room import Room
from mcp_federation.contract.digest import sha256_digest
from mcp_federation.contract.messages import Blob, ErrorReply, decode
from mcp_federation.contract.subjects import Header
from mcp_federation.errors import (
    BusUnavailable,
    ConnectionLost,
    DeadlineExceeded,
    InvalidRequest,
    NodeLost,
    NodeUnavailable,
    Overloaded,
    PayloadTooLarge,
)

DEFAULT_LIMIT = 64 * 1024 * 1024
HEADROOM = 4096
"""Bytes of a message that are left to its headers."""

CHUNK = 256 * 1024
"""The most bytes of one answer: other messages wait behind it."""

WINDOW = 4
"""How many chunks are asked for at a time."""

SHARES = 4
"""How many payloads of the largest size are kept, and fetched, at a time; smaller ones are more."""

HOLD = 60.0
"""Seconds for which a payload is kept that nobody asks for."""

IDLE = 10.0
"""Seconds after which such a payload gives way to others, where they wait for room."""

ASK_AGAIN = 2.0
"""Seconds after which a chunk is asked for again: the answer may have died with a connection. Each time twice
as many, as on a slow line what was asked for again comes again."""

BUSY_PAUSE = 0.05
"""Seconds at most until a sender is asked again that had too many requests at once."""

GONE_AFTER = 3
GONE_PAUSE = 0.1
"""A new subscription may need a moment to be known everywhere: nobody there means gone the third time."""

HASH_ASIDE = 1024 * 1024
"""From so many bytes on, hashing would hold up the event loop for longer than a millisecond."""

# It is the peer that says where we send requests to: to an inbox, and nowhere else.
_INBOX = re.compile(r"_INBOX[A-Za-z0-9_.=-]{1,200}")
_OFFSET = re.compile(rb"[0-9]{1,15}")
_BUSY = str(Overloaded.status)


class Offer:
    """A payload that is kept for its receiver. `blob` is the message that stands for it.

    It is kept until it is released, as by leaving its block, until its receiver has it all, or until nobody
    has asked for it for `hold` seconds. Where others wait for its room, it gives way sooner.
    """

    def __init__(
        self, blob: Blob, payload: bytes, hold: float, room: Room, on_release: Callable[["Offer"], None]
    ) -> None:
        self.blob = blob
        self.kept = True
        self.gave_way = False
        self._payload = memoryview(payload)
        self._hold = hold
        self._room = room
        self._on_release = on_release
        self._loop = asyncio.get_running_loop()
        self._asked = self._loop.time()
        self._timer = self._loop.call_later(min(hold, IDLE), self._look)

    def read(self, offset: int, length: int) -> bytes:
        """Up to so many bytes from there."""
        self._asked = self._loop.time()
        return bytes(self._payload[offset : offset + length])

    def holds(self, payload: bytes) -> bool:
        """Whether it is that payload."""
        return self._payload == payload

    def give_way(self) -> None:
        """Release it where nobody asks for it."""
        if self._loop.time() - self._asked >= IDLE:
            self.gave_way = True
            self.release()

    def release(self) -> None:
        """Keep it no longer."""
        self.kept = False
        self._timer.cancel()
        self._on_release(self)

    def _look(self) -> None:
        left = self._asked + self._hold - self._loop.time()
        self._timer = self._loop.call_later(min(max(left, 0.01), IDLE), self._look)
        if left <= 0:
            self.release()
        elif self._room.wanted:
            self.give_way()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Blobs:
    """Offers and fetches payloads of up to `limit` bytes over a bus. The owner closes it."""

    def __init__(self, bus: Bus, *, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._bus = bus
        self._inbox = ""
        self._responder: Subscription | None = None
        self._starting = asyncio.Lock()
        self._offers: dict[str, Offer] = {}
        self._released = asyncio.Event()
        self._number = 0
        self._keeping = Room(SHARES * limit)
        self._fetching = Room(SHARES * limit)

    def __len__(self) -> int:
        """How many payloads are kept."""
        return len(self._offers)

    def needed(self, size: int) -> bool:
        """Whether a payload of so many bytes does not fit one message."""
        return size > self._bus.max_payload - HEADROOM

    @property
    def crowded(self) -> bool:
        """Whether as much waits to be offered as is offered: better that nobody makes more now."""
        return self._keeping.wanted >= self._keeping.size

    async def offer(self, payload: bytes, *, hold: float = HOLD, timeout: float = HOLD) -> Offer:
        """Keep a payload for one receiver, for `hold` seconds after it asked last.

        Raises:
            PayloadTooLarge: it exceeds the limit.
            DeadlineExceeded: so much is kept for others that there was no room within `timeout` seconds.
            BusUnavailable: the bus is closed.
        """
        size = len(payload)
        self._check_size(size)
        digest = await _digest(payload)
        await self._start()
        await self._take_room(size, timeout)
        self._number += 1
        blob = Blob(subject=f"{self._inbox}.{self._number}", size=size, digest=digest)
        offer = self._offers[blob.subject] = Offer(blob, payload, hold, self._keeping, self._forget)
        return offer

    async def fetch(self, blob: Blob, timeout: float) -> bytes:
        """The payload that a blob stands for, within `timeout` seconds.

        Raises:
            PayloadTooLarge: it exceeds the limit; nothing was fetched.
            InvalidRequest: its sender no longer keeps it, or it is not what the blob says.
            NodeLost: its sender is gone.
            ConnectionLost: NATS went away, here.
            DeadlineExceeded: it did not arrive in time.
        """
        self._check_size(blob.size)
        if not _INBOX.fullmatch(blob.subject):
            raise InvalidRequest("a blob's subject is an inbox")
        try:
            async with asyncio.timeout(timeout):
                return await self._fetch_in_turn(blob)
        except TimeoutError:
            raise DeadlineExceeded(f"{blob.size} bytes did not arrive within {timeout:g} s") from None
        except BusUnavailable as error:
            raise ConnectionLost("the connection to NATS broke before the payload came") from error

    async def let_go(self, blob: Blob) -> None:
        """Tell its sender that it has it all, or gives it up. Were this lost, it would be kept in vain."""
        with suppress(BusUnavailable):
            await self._bus.publish(blob.subject, str(blob.size).encode())

    async def taken(self, timeout: float) -> None:
        """Wait until everything offered was fetched or released, for `timeout` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._offers:
                    await self._released.wait()

    async def close(self) -> None:
        """Keep nothing any longer."""
        for offer in list(self._offers.values()):
            offer.release()
        if self._responder is not None:
            await self._responder.close()
            self._responder = None

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            raise PayloadTooLarge(
                f"{size} bytes exceed the {self.limit} that a payload may have",
                {"size": size, "limit": self.limit},
            )

    async def _take_room(self, size: int, timeout: float) -> None:
        if not self._keeping.fits(size):
            for offer in list(self._offers.values()):
                offer.give_way()
        try:
            async with asyncio.timeout(timeout):
                await self._keeping.take(size)
        except TimeoutError:
            raise DeadlineExceeded(f"there was no room for {size} bytes within {timeout:g} s") from None

    async def _start(self) -> None:
        async with self._starting:
            if self._responder is None:
                self._inbox = self._bus.new_inbox()
                self._responder = await self._bus.respond(f"{self._inbox}.*", self._respond)
                await self._bus.flush()

    def _forget(self, offer: Offer) -> None:
        if self._offers.get(offer.blob.subject) is offer:
            del self._offers[offer.blob.subject]
            self._keeping.give_back(offer.blob.size)
            self._released.set()
            self._released = asyncio.Event()

    async def _respond(self, delivery: Delivery) -> Reply:
        offer = self._offers.get(delivery.subject)
        if offer is None:
            raise InvalidRequest("the payload is no longer kept")
        if not _OFFSET.fullmatch(delivery.payload) or (offset := int(delivery.payload)) > offer.blob.size:
            raise InvalidRequest(f"an offset is a whole number from 0 to the size, {offer.blob.size}")
        if offset == offer.blob.size:
            offer.release()  # its receiver has it all
            return Reply(b"")
        return Reply(offer.read(offset, min(CHUNK, self._bus.max_payload - HEADROOM)))

    async def _fetch_in_turn(self, blob: Blob) -> bytes:
        await self._fetching.take(blob.size)
        try:
            payload = await _Fetch(self._bus, blob).run()
            await self.let_go(blob)
            if await _digest(payload) != blob.digest:
                raise InvalidRequest("the payload is not the one that was offered: its digest is another")
            return payload
        finally:
            self._fetching.give_back(blob.size)


class _Fetch:
    """One payload on its way in."""

    def __init__(self, bus: Bus, blob: Blob) -> None:
        self._bus = bus
        self._blob = blob
        self._payload = bytearray(blob.size)

    async def run(self) -> bytes:
        size = self._blob.size
        # The first answer tells how much its sender puts into one.
        chunk = await self._take(0, size) if size else 1
        starts = iter(range(chunk, size, chunk))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WINDOW):
                    group.create_task(self._work(starts, chunk))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return bytes(self._payload)

    async def _work(self, starts: Iterator[int], chunk: int) -> None:
        for start in starts:
            end = min(start + chunk, self._blob.size)
            while start < end:
                start += await self._take(start, end)

    async def _take(self, start: int, end: int) -> int:
        """Ask for the bytes from `start`, and put in what comes, up to `end`; how many those were."""
        reply = await self._ask(str(start).encode())
        if Header.ERROR_CODE in reply.headers:
            # Whatever went wrong there, it says nothing of the call that this is a part of.
            raise InvalidRequest(
                f"the payload cannot be fetched: {decode(reply.payload, ErrorReply).message}"
            )
        taken = reply.payload[: end - start]
        if not taken:
            raise InvalidRequest(f"the payload ends before its size, {self._blob.size}")
        self._payload[start : start + len(taken)] = taken
        return len(taken)

    async def _ask(self, offset: bytes) -> Delivery:
        absences = 0
        patience = ASK_AGAIN
        while True:
            try:
                reply = await self._bus.request(self._blob.subject, offset, timeout=patience)
            except DeadlineExceeded:
                patience *= 2  # the whole has a deadline, too
            except NodeUnavailable:
                absences += 1
                if absences == GONE_AFTER:
                    raise NodeLost("who offered the payload is gone") from None
                await asyncio.sleep(GONE_PAUSE)
            else:
                if reply.headers.get(Header.ERROR_CODE) != _BUSY:
                    return reply
                await asyncio.sleep(random.uniform(0, BUSY_PAUSE))  # noqa: S311 - so that not all come back at once


async def _digest(payload: bytes) -> str:
    if len(payload) < HASH_ASIDE:
        return sha256_digest(payload)
    return await asyncio.to_thread(sha256_digest, payload)
