"""What a request brings, within bounds: a JSON body, and query parameters."""

import asyncio
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from mcp_federation.errors import InvalidRequest, PayloadTooLarge

BODY_TIMEOUT = 30.0
"""Seconds that a client may take to send its body."""

PARSE_ASIDE = 1024 * 1024
"""From so many bytes on, a body is checked and parsed in a thread: it would hold up all other callers."""

PIECE = 256 * 1024
"""Bytes that are looked at in one go, so that a thread lets others go on in between."""

_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

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
            HTTPException: it is not declared as JSON (415), or came too slowly (408).
            ClientDisconnect: the client went away.
        """
        # Required, as it keeps the forms of foreign web pages out.
        declared = next((value for name, value in request.scope["headers"] if name == b"content-type"), b"")
        if declared.partition(b";")[0].strip().lower() != b"application/json":
            raise HTTPException(415, "the body must be declared as application/json")
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
            raise InvalidRequest(f"the body is no valid JSON: {error}") from None

    async def _read(self, request: Request) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._max_size:
                        raise PayloadTooLarge(
                            f"the body is over {self._max_size} bytes", {"limit": self._max_size}
                        )
                    chunks.append(chunk)
        except TimeoutError:
            raise HTTPException(408, f"the body did not come within {BODY_TIMEOUT:g} s") from None
        return b"".join(chunks)


def nests_deeper(body: bytes, depth: int) -> bool:
    """Whether JSON nests deeper than `depth` levels; what is no JSON may count as too deep."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    level, in_string = 0, 0
    # Without what is escaped every quote begins or ends a string.
    for piece in _pieces(body.replace(b"\\\\", b"").replace(b'\\"', b"")):
        parts = piece.split(b'"')
        steps = b"".join(parts[in_string::2]).translate(_STEPS, _NO_BRACKETS)
        in_string ^= (len(parts) - 1) & 1
        levels = list(accumulate(memoryview(steps).cast("b"), initial=level))
        if max(levels) > depth:
            return True
        level = levels[-1]
    return False


def check_utf8(body: bytes) -> None:
    """Raise UnicodeDecodeError where it is none."""
    if len(body) <= PIECE:
        body.decode()
        return
    decode = getincrementaldecoder("utf-8")().decode
    for piece in _pieces(body):
        decode(piece)
    decode(b"", final=True)


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + PIECE] for start in range(0, len(body), PIECE))


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
