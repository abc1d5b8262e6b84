"""Writing for people: a terminal gets colours and a width, a pipe gets plain and whole lines."""

import re
import sys
from typing import Final, TextIO

from rich.console import Console

PIPED_WIDTH: Final = 200

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def make_console(stream: TextIO | None = None) -> Console:
    """A console on stdout, or on the stream given."""
    out = stream or sys.stdout
    return Console(
        file=out, width=None if out.isatty() else PIPED_WIDTH, highlight=False, markup=False, emoji=False
    )


def safe_text(text: str) -> str:
    """Text of others without what drives a terminal: control characters and those that turn its direction."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
