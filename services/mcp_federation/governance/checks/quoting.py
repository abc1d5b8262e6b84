"""How findings quote what a stranger wrote: nothing invisible, nothing secret, nothing long. Pure."""

import re
import unicodedata
from typing import Final

from mcp_federation.governance.checks.secret_shapes import find_secrets, mask

CONTEXT: Final = 24

_CONTROL_NAMES = {
    0x00: "NULL",
    0x07: "BELL",
    0x08: "BACKSPACE",
    0x0B: "LINE TABULATION",
    0x0C: "FORM FEED",
    0x1B: "ESCAPE",
    0x7F: "DELETE",
    0x85: "NEXT LINE",
}
_LONG_OR_NUMBERED = re.compile(r"\S*\d\S*|\S{17,}")


def quote(text: str, limit: int = 80) -> str:
    """The text fit to be shown: secrets masked, invisible characters spelled out, cut to `limit`."""
    start = text[: 4 * limit]
    bare = "".join(char for char in start if char.isprintable())
    # A secret that invisible characters cut in pieces is a secret all the same.
    shown = "".join(_spelled(char) for char in mask(bare if find_secrets(bare) else start))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def context_before(text: str, index: int) -> str:
    """The few words before an index, for people to find the place by; empty where there are none."""
    # What stands there may be a piece of a secret, too short to be known as one: words only.
    words = _LONG_OR_NUMBERED.sub("…", text[max(0, index - CONTEXT) : index])
    return "".join(_spelled(char) for char in words).strip()


def code_point(char: str) -> str:
    """`U+200B ZERO WIDTH SPACE`."""
    number = ord(char)
    name = unicodedata.name(char, "") or _CONTROL_NAMES.get(number, "") or _nameless(char)
    return f"U+{number:04X} {name}"


def _nameless(char: str) -> str:
    match unicodedata.category(char):
        case "Cc":
            return "CONTROL CHARACTER"
        case "Co":
            return "PRIVATE USE CHARACTER"
        case _:
            return "UNASSIGNED CHARACTER"


def _spelled(char: str) -> str:
    if char.isprintable() and not _is_selector(char):
        return char
    number = ord(char)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
