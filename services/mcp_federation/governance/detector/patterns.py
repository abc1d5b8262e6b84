"""What concepts amount to when they come together, as regular expressions over concepts. Pure."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Final

from mcp_federation.governance.detector.lexicon import Hit, Lexicon, lexicon

MAX_APART: Final = 6
"""Tokens between concepts that count as neighbours; a longer way counts as one more concept between them."""

_APART = "\x00"
_FIRST = 0x100  # above ASCII, so that no concept's character has a meaning in a regular expression
_ITEM = re.compile(r"\.{2,3}|\(([^)]*)\)(\??)|([^\s()?]+)(\??)")
_GAPS = {"..": ".{0,2}?", "...": ".{0,4}?"}


class Patterns:
    """Patterns over the concepts of a lexicon, numbered from where its concepts end."""

    def __init__(self, lexicon: Lexicon, patterns: Mapping[str, Sequence[str]]) -> None:
        self.names = (*lexicon.names, *patterns)
        number = {name: place for place, name in enumerate(self.names)}
        self._first_number = len(lexicon.names)
        self._compiled = [
            re.compile("|".join(_compile(sequence, number) for sequence in sequences), re.DOTALL)
            for sequences in patterns.values()
        ]

    def extended(self, hits: list[Hit]) -> list[Hit]:
        """The concepts with the patterns among them, each pattern once, where it first begins."""
        if len(hits) < 2:
            return hits
        line, places, before = "", [], hits[0][0]
        for place, concept in hits:
            if place - before > MAX_APART:
                line += _APART
                places.append(place)
            line += chr(_FIRST + concept)
            places.append(place)
            before = place
        found = [
            (places[match.start()], self._first_number + number)
            for number, pattern in enumerate(self._compiled)
            if (match := pattern.search(line))
        ]
        return sorted([*hits, *found]) if found else hits


@cache
def patterns() -> Patterns:
    """The patterns that come with the detector."""
    raw = resources.files(__package__).joinpath("patterns.toml").read_text("utf-8")
    return Patterns(lexicon(), tomllib.loads(raw))


def _compile(sequence: str, number: Mapping[str, int]) -> str:
    parts = []
    for match in _ITEM.finditer(sequence):
        gap = _GAPS.get(match[0])
        names = (match[1] or match[3] or "").split("|")
        one = gap or f"[{''.join(chr(_FIRST + number[name]) for name in names)}]"
        parts.append(one + (match[2] or match[4] or ""))
    return "".join(parts)
