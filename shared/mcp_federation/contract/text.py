"""What is told of JSON text before it is parsed: how deep it nests, and whether it is text; and a mend."""

import re
from codecs import getincrementaldecoder
from itertools import accumulate
from typing import Final

from msgspec import Raw

PARSE_ASIDE: Final = 1024 * 1024
"""From so many bytes on, that is done in a thread: it would hold up all other callers."""

PIECE = 256 * 1024
"""Bytes that are looked at in one go, so that a thread lets others go on in between."""

_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Halves of a pair on either side of an escaped backslash are none.
_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_SURROGATES = re.compile(rb"(\\\\|" + _PAIR + rb")|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def nests_deeper(body: bytes, depth: int) -> bool:
    """Whether JSON nests deeper than `depth` levels; what is no JSON may count as too deep."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    level, in_string = 0, 0
    # Without what is escaped every quote begins or ends a string.
    rest = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    for start in range(0, len(rest), PIECE):
        parts = rest[start : start + PIECE].split(b'"')
        steps = b"".join(parts[in_string::2]).translate(_STEPS, _NO_BRACKETS)
        in_string ^= (len(parts) - 1) & 1
        levels = list(accumulate(memoryview(steps).cast("b"), initial=level))
        if max(levels) > depth:
            return True
        level = levels[-1]
    return False


def has_lone_surrogate(body: bytes) -> bool:
    """Whether half of a pair of UTF-16 is escaped in it without the other."""
    return any(match[1] is None for match in _SURROGATES.finditer(body))


def mend_surrogates(body: bytes) -> bytes:
    """The same with U+FFFD for each such half, as encoders write it that cannot escape."""
    return _SURROGATES.sub(lambda match: match[1] or rb"\ufffd", body)


def check_utf8(body: bytes | Raw) -> None:
    """Raise UnicodeDecodeError where it is none; a decoder of JSON does not look at all that it passes on."""
    view = memoryview(body)
    if len(view) <= PIECE:
        str(view, "utf-8")
        return
    decode = getincrementaldecoder("utf-8")().decode
    for start in range(0, len(view), PIECE):
        decode(view[start : start + PIECE])
    decode(b"", final=True)
