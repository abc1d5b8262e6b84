"""What a request brings, within bounds: a JSON body, and query parameters."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from mcp_federation.contract.text import PARSE_ASIDE, check_utf8, has_lone_surrogate, nests_deeper
from mcp_federation.errors import InvalidRequest, PayloadTooLarge

BODY_TIMEOUT = 30.0
"""Seconds that a client may take to send its body, beside those that its line needs."""

SLOWEST_LINE = 64 * 1024
"""Bytes a second that a line has to carry."""

LINGER = 30.0
"""Seconds that a client may go on sending a body that was refused, at most."""

LINGER_BYTES = 128 * 1024 * 1024
LINGER_SILENCE = 2.0
"""Seconds without a byte of it after which it is waited for no longer."""

T = TypeVar("T")


class Incoming:
    """The receiving side of one request, which knows whether all of it came."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        """As ASGI has it."""
        message = await self._receive()
        self._ended = not message.get("more_body", False)
        return message

    def has_left(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a client is sending what nobody has read."""
        if self._ended:
            return False
        sent = dict(headers)
        # Who asks first whether to send (RFC 9110, 10.1.1) is told not to by any answer.
        return b"expect" not in sent and (
            b"transfer-encoding" in sent or sent.get(b"content-length", b"0") != b"0"
        )

    async def drain(self) -> None:
        """Let it send the rest, within bounds: one that does not read meanwhile would meet a reset only."""
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while left > 0 and not self._ended:
                    async with asyncio.timeout(LINGER_SILENCE):
                        left -= len((await self()).get("body", b""))


class BodyReader:
    """Reads JSON bodies of bounded size and depth."""

    def __init__(self, max_size: int, max_depth: int) -> None:
        self._max_size = max_size
        self._max_depth = max_depth

    async def read(self, request: Request, decoder: msgspec.json.Decoder[T]) -> T:
        """The body as the decoder's type.

        Raises:
            InvalidRequest: it is no JSON, or not of that type, or nests too deeply.
            PayloadTooLarge: it is over the bound, whatever its headers say.
            HTTPException: it is not declared as JSON, or is compressed (415), or came too slowly (408).
            ClientDisconnect: the client went away.
        """
        # Required, as it keeps the forms of foreign web pages out.
        headers = dict(request.scope["headers"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            raise HTTPException(415, "the body must be declared as application/json")
        if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise HTTPException(415, "the body must come as it is, without a Content-Encoding")
        body = await self._read(request)
        if len(body) < PARSE_ASIDE:
            return self._parse(body, decoder)
        return await asyncio.to_thread(self._parse, body, decoder)

    def _parse(self, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        if nests_deeper(body, self._max_depth):
            raise InvalidRequest(f"the body nests deeper than {self._max_depth} levels")
        try:
            # Parts that are passed on unparsed would otherwise go unchecked.
            check_utf8(body)
            return decoder.decode(body)
        except UnicodeDecodeError:
            raise InvalidRequest("the body is not valid UTF-8") from None
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"the body does not fit: {error}") from None
        except (msgspec.DecodeError, RecursionError) as error:
            # The decoder takes it for the end of the data.
            why = "an escaped surrogate stands without its pair" if has_lone_surrogate(body) else error
            raise InvalidRequest(f"the body is no valid JSON: {why}") from None

    async def _read(self, request: Request) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT) as bound:
                latest = bound.when() or 0.0
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._max_size:
                        raise PayloadTooLarge(
                            f"the body is over {self._max_size} bytes", {"limit": self._max_size}
                        )
                    chunks.append(chunk)
                    if size >= SLOWEST_LINE:
                        bound.reschedule(latest + size / SLOWEST_LINE)
        except TimeoutError:
            raise HTTPException(408, f"the body did not come in time: {size} bytes did") from None
        return b"".join(chunks)


def read_query(request: Request, known: Iterable[str]) -> dict[str, str]:
    """The query parameters.

    Raises:
        InvalidRequest: one is not known here, or stands there twice.
    """
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise InvalidRequest(f"there is no parameter {name[:64]!r} here", {"known": sorted(known)})
        if name in query:
            raise InvalidRequest(f"the parameter {name!r} stands there twice")
        query[name] = value
    return query
