"""What concepts amount to when they come together, as regular expressions over concepts. Pure."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Final

from mcp_federation.governance.detector.lexicon import Hit, Lexicon, lexicon
from mcp_federation.governance.detector.tokens import SECRET_PATH, START, TAG

MAX_APART: Final = 6
"""Tokens between concepts that count as neighbours; a longer way counts as one more concept between them."""

LOUD: Final = (
    SECRET_PATH,
    TAG,
    *("attack", "context", "covert", "defence", "destination", "exfil", "ignore", "intimate", "malware"),
    *("personal", "prefer", "priority", "secret", "shell"),
)
"""Concepts that make a passage worth weighing without any pattern in it."""

_CACHED = 1 << 14
_APART = "\x00"
_FIRST = 0x100  # above ASCII, so that no concept's character has a meaning in a regular expression
_ITEM = re.compile(r"\.{2,3}|\(([^)]*)\)(\??)|([^\s()?]+)(\??)")
_GAPS = {"..": ".{0,2}?", "...": ".{0,4}?"}


class _Pattern:
    """The sequences of a pattern, those that begin with a sentence apart."""

    def __init__(self, sequences: Sequence[str], number: Mapping[str, int]) -> None:
        bound = [each for each in sequences if START in each]
        free = [each for each in sequences if START not in each]
        self.bound, self.free = (_union(each, number) for each in (bound, free))
        # A match begins with one of the first of these concepts and ends with one of the second: most
        # patterns are ruled out by that alone.
        self.needs_bound, self.needs_free = (_ends(each, number) for each in (bound, free))


class Patterns:
    """Patterns over the concepts of a lexicon, numbered from where its concepts end."""

    def __init__(self, lexicon: Lexicon, patterns: Mapping[str, Sequence[str]]) -> None:
        self.names = (*lexicon.names, *patterns)
        number = {name: place for place, name in enumerate(self.names)}
        self._start = chr(_FIRST + number[START])
        first = len(lexicon.names)
        self._loud = frozenset([*map(number.__getitem__, LOUD), *range(first, len(self.names))])
        self._patterns = [
            (first + place, _Pattern(sequences, number)) for place, sequences in enumerate(patterns.values())
        ]
        # Most tools say the same few things: their lines of concepts are short, and come again.
        self._found = lru_cache(maxsize=_CACHED)(self._find)

    def extended(self, hits: list[Hit]) -> list[Hit]:
        """The concepts with the patterns among them, each pattern once, where it first begins."""
        if len(hits) < 2:
            return hits
        line, places = _line(hits)
        found = self._found(line)
        return sorted([*hits, *((places[at], concept) for at, concept in found)]) if found else hits

    def is_loud(self, hits: list[Hit]) -> bool:
        """Whether a pattern or a loud concept is among them."""
        return not self._loud.isdisjoint([concept for _, concept in hits])

    def _find(self, line: str) -> tuple[tuple[int, int], ...]:
        """The patterns in a line of concepts: index into the line, and number."""
        at_free = [at for at, char in enumerate(line) if char != self._start]
        free = line.replace(self._start, "")
        mask = 0
        for char in free:
            mask |= 1 << ord(char)
        found = []
        for concept, pattern in self._patterns:
            (first, last), (first_bound, last_bound) = pattern.needs_free, pattern.needs_bound
            if mask & first and mask & last and (match := pattern.free.search(free)):
                found.append((at_free[match.start()], concept))
            elif mask & first_bound and mask & last_bound and (match := pattern.bound.search(line)):
                found.append((match.start(), concept))
        return tuple(found)


def _line(hits: list[Hit]) -> tuple[str, list[int]]:
    """The concepts as characters, and the place of each."""
    line, places, before = "", [], hits[0][0] if hits else 0
    for place, concept in hits:
        if place - before > MAX_APART:
            line += _APART
            places.append(place)
        line += chr(_FIRST + concept)
        places.append(place)
        before = place
    return line, places


def _union(sequences: Sequence[str], number: Mapping[str, int]) -> re.Pattern[str]:
    return re.compile("|".join(_compile(each, number) for each in sequences) or r"(?!)", re.DOTALL)


def _ends(sequences: Sequence[str], number: Mapping[str, int]) -> tuple[int, int]:
    """The concepts of which each match has one at its begin, and one at its end, as bits.

    What is optional does not count, and neither does where a sentence begins.
    """
    first = last = 0
    for sequence in sequences:
        items = [match[1] or match[3] for match in _ITEM.finditer(sequence) if not (match[2] or match[4])]
        names = [item for item in items if item and item != START]
        first |= _bits(names[0], number)
        last |= _bits(names[-1], number)
    return first, last


def _bits(names: str, number: Mapping[str, int]) -> int:
    return sum(1 << (_FIRST + number[name]) for name in names.split("|"))


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
