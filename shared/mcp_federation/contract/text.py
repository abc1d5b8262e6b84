"""What is told of JSON text before it is parsed: how deep it nests, and whether it is text at all."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

PARSE_ASIDE: Final = 1024 * 1024
"""From so many bytes on, that is done in a thread: it would hold up all other callers."""

PIECE = 256 * 1024
"""Bytes that are looked at in one go, so that a thread lets others go on in between."""

_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


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


def has_lone_surrogate(body: bytes) -> bool:
    """Whether half of a pair of UTF-16 is escaped in it without the other."""
    # Halves on either side of an escaped backslash are no pair.
    rest = _PAIR.sub(b"", body.replace(b"\\\\", b"  "))
    return _SURROGATE.search(rest) is not None


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
