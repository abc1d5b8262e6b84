"""The words that a finding is about, for people to see what is meant. Pure."""

import re
from typing import Final

from mcp_federation.contract.messages import Finding
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading, Text

WIDTH: Final = 120
_BEFORE: Final = 30
MAX_TEXT: Final = 50_000
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n{2,}")
_INDEX = re.compile(r"(.*)\[(\d+)\]")


def excerpt(reading: Reading, finding: Finding) -> str:
    """A line of the text where the finding is, from about its place on; empty where it is about no text."""
    where, index = finding.where, 0
    text = _text_at(reading, where)
    if text is None and (match := _INDEX.fullmatch(where)):
        text, index = _text_at(reading, match[1]), int(match[2])
    if text is None or not text.text.strip():
        return ""
    if finding.words:
        return quote(_densest(text.text, finding.words), 2 * WIDTH)
    start = max(0, index - _BEFORE)
    shown = quote(text.text[start : start + 4 * WIDTH].replace("\n", " "), WIDTH)
    return f"{'…' if start else ''}{shown}"


def _densest(text: str, words: tuple[str, ...]) -> str:
    """The sentence that has the most of the words."""
    lowered = tuple(word.lower() for word in words)
    sentences = [" ".join(sentence.split()) for sentence in _SENTENCE.split(text[:MAX_TEXT])]
    return max(sentences, key=lambda sentence: sum(word in sentence.lower() for word in lowered))


def _text_at(reading: Reading, where: str) -> Text | None:
    return next((text for text in reading.texts if text.where == where and not text.is_key), None)
