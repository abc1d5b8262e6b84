"""The bus as the rest of the system sees it: events, request-reply, and streams that keep messages.

`NatsBus` and `MemoryBus` implement it under one contract test suite. Everything raises only errors of
`mcp_federation.errors`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, Self

from msgspec import Struct

from mcp_federation.contract.subjects import StreamSpec

Headers = Mapping[str, str]


class Delivery(Struct, frozen=True):
    """A message as it arrived. `reply` is where an answer goes, None for an event."""

    subject: str
    payload: bytes
    headers: Headers = {}
    reply: str | None = None


class Stored(Struct, frozen=True):
    """A message that a stream keeps; `sequence` is its place in the stream."""

    subject: str
    payload: bytes
    sequence: int


class Reply(Struct, frozen=True):
    """What a handler answers a request with."""

    payload: bytes
    headers: Headers = {}


Interim = Callable[[Delivery], None]
Handler = Callable[[Delivery], Awaitable[None]]
Responder = Callable[[Delivery], Awaitable[Reply | None]]
StoredHandler = Callable[[Stored], Awaitable[None]]
BatchHandler = Callable[[list[Stored]], Awaitable[None]]
Anew = Callable[[], Awaitable[None]]
"""Called where a stream turns out to be another than before, as after a server that lost its data: its
sequences begin at 1 again, and what it kept is gone."""


class Subscription(Protocol):
    """Something that receives until it is closed."""

    async def close(self) -> None:
        """Stop taking messages, and wait until those taken are handled."""


class Follower(Subscription, Protocol):
    """A replay of a stream that turns into following it live."""

    async def caught_up(self, timeout: float) -> None:
        """Wait until everything that was in the stream at the start has been handled.

        Raises:
            DeadlineExceeded: that took longer than `timeout` seconds.
        """


class Bus(Protocol):
    """A connection to the message bus. Subjects come from `contract.subjects`."""

    @property
    def max_payload(self) -> int:
        """The most bytes that payload and headers may have together."""

    @property
    def connected(self) -> bool:
        """Whether a server is reached right now."""

    async def publish(self, subject: str, payload: bytes, headers: Headers | None = None) -> None:
        """Send an event to whoever listens now.

        Raises:
            PayloadTooLarge: payload and headers exceed `max_payload`.
            BusUnavailable: the connection is closed.
        """

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: Headers | None = None,
        on_interim: Interim | None = None,
    ) -> Delivery:
        """Send a request and wait for its first answer.

        What comes ahead of it under the header `Mcpfed-Interim` goes to `on_interim`, which must not raise.

        Raises:
            NodeUnavailable: nobody listens on the subject.
            DeadlineExceeded: no answer came within `timeout` seconds.
            PayloadTooLarge, BusUnavailable: as for `publish`.
        """

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str | None = None, limit: int = 256
    ) -> Subscription:
        """Handle every message on a subject (wildcards allowed), up to `limit` at a time.

        With a `queue`, each message goes to one member of that group. A handler that raises is logged.
        """

    async def respond(
        self, subject: str, responder: Responder, *, queue: str | None = None, limit: int = 256
    ) -> Subscription:
        """Answer requests on a subject, up to `limit` at a time; over it, `Overloaded` at once.

        What the responder raises from `mcp_federation.errors` is answered as an `ErrorReply` with the
        `Nats-Service-Error` headers, anything else as `InternalError`. None answers nothing.
        """

    async def hand_on(self, delivery: Delivery, headers: Headers) -> None:
        """Send a request on with other headers, to whoever takes it now and answers it.

        Raises:
            PayloadTooLarge, BusUnavailable: as for `publish`.
        """

    def new_inbox(self) -> str:
        """A subject that is this connection's alone, to subscribe to it or below it."""

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Have a stream with that configuration; it may be there already.

        It is made again where the server comes back without it, or somebody removes it.

        Raises:
            BusUnavailable: JetStream cannot make it.
        """

    async def store(self, subject: str, payload: bytes, *, expect: int | None = None) -> int:
        """Publish into the stream that keeps the subject; its sequence there, once it is kept.

        `expect` is the sequence that the subject's last message must have (0: none yet).

        Raises:
            Conflict: the subject's last message is another one.
            BusUnavailable: no stream keeps the subject, or it does not answer.
        """

    async def last(self, stream: StreamSpec, subject: str) -> Stored | None:
        """The last message that the stream keeps on a subject.

        Raises:
            BusUnavailable: the stream is not there.
        """

    async def follow(
        self,
        stream: StreamSpec,
        handler: StoredHandler,
        *,
        subject: str | None = None,
        tail: int | None = None,
        on_anew: Anew | None = None,
    ) -> Follower:
        """Replay what a stream keeps, in order, then follow it live, over reconnects as well.

        A last-per-subject stream replays each subject's last message. `subject` narrows it down;
        `tail` replays only about that many of the latest messages. A stream that is not there yet is
        waited for. Handlers run one after another; one that raises is logged. `on_anew` runs before the
        first message of a stream that began anew is handled.
        """

    async def consume(
        self, stream: StreamSpec, name: str, handler: BatchHandler, *, on_anew: Anew | None = None
    ) -> Subscription:
        """Work through a stream once for all workers of that name, a batch at a time.

        A batch is acknowledged when its handler returns, and comes again when it raises or dies: at
        least once. A new name starts with the oldest message. `on_anew` as for `follow`.
        """

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until everything published so far has reached the server."""

    async def close(self) -> None:
        """Finish what is being handled, within a bound, and disconnect."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...
