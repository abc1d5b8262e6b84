"""The elements of a JSON array, told apart without being read. Pure."""

import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)
_BLANK = b" \t\r\n"


def elements(body: bytes) -> list[Raw]:
    """Each element's JSON; what keeps one from being read (its UTF-8, its depth) is that one's own affair.

    Raises:
        ValueError: it is no array.
    """
    try:
        return msgspec.json.decode(body, type=list[Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [Raw(element) for element in _split(body.strip(_BLANK))]


def _split(text: bytes) -> Iterator[bytes]:
    """What stands between the commas that no string and no inner bracket holds."""
    depth, begin, end = 0, 1, 0
    for token in _TOKEN.finditer(text if text.startswith(b"[") else b""):
        mark, end = token[0], token.end()
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if depth == 0 or (depth == 1 and mark == b","):
            yield text[begin : token.start()].strip(_BLANK)
            begin = end
        if depth == 0:
            break
    if depth or not end or end != len(text):
        raise ValueError("it is no JSON array")
