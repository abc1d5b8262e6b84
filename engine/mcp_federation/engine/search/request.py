"""A request taken apart: what is asked for, clause by clause, and the values that are only given along."""

import re
from dataclasses import dataclass

MAX_REQUEST = 4_000
"""Characters of a request that are read; the rest is ignored."""

# Strangers write requests, so every pattern takes time in proportion to the text: what repeats is bounded, or
# begins only where nothing of its kind stands before it.
_QUOTED = re.compile(
    r"(?<!\w)'[^'\n]{1,200}'(?!\w)|\"[^\"\n]{1,200}\"|`[^`\n]{1,200}`|“[^”\n]{1,200}”|「[^」\n]{1,200}」"
)
_VALUES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("url", re.compile(r"https?://\S+|\bwww\.\S+")),
    ("email", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+\.\w+[\w.]*")),
    ("file path", re.compile(r"(?<![\w/])(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w.*-]+)+[/\\]?")),
    (
        "file",
        re.compile(
            r"(?<![\w-])[\w-]++\.(?:py|md|csv|tsv|json|txt|js|ts|html?|css|xml|ya?ml|pdf|png|jpe?g|gif|docx?|xlsx?"
            r"|pptx?|zip|tar|gz|log|ini|cfg|toml|sql|sh|mp[34]|wav)\b"
        ),
    ),
    ("selector", re.compile(r"(?<![\w.#])[#.][A-Za-z][\w-]*(?:\[[^\]]{0,100}\])?")),
)
_SENTENCE = re.compile("[.!?;\\n]{1,8}(?:\\s|$)|[\u3002\uff01\uff1f\uff1b]")
_LINK = re.compile(
    r",? (?:and (?:also|then|additionally|find|get|show|tell|give|provide|search|check|let|can|could|what"
    r"|how|is|are|do|does|create|send|list|suggest|recommend|help|make|generate|look)\b|also\b|then\b"
    r"|as well as\b|along with\b|additionally\b|after that\b|but also\b|plus\b)|, (?:and )?| and ",
    re.IGNORECASE,
)
_MAX_QUOTED_SHARE = 0.6
_MIN_CLAUSE = 8
MAX_CLAUSES = 4


@dataclass(frozen=True, slots=True)
class Request:
    """`intent` is the text with each value put as its kind; `values` the text of the values.

    `clauses` are the parts of the intent that may each want a tool of their own, the whole not among them.
    """

    intent: str
    values: str
    kinds: frozenset[str]
    clauses: tuple[str, ...]


def read_request(text: str) -> Request:
    """Take a request apart; a value is a quotation, URL, address, path, file or selector."""
    text = text.strip()[:MAX_REQUEST].strip('"“”').strip()
    values: list[str] = []
    kinds: set[str] = set()
    quoted = sum(len(match[0]) for match in _QUOTED.finditer(text))
    intent = text
    if 0 < quoted <= _MAX_QUOTED_SHARE * len(text):
        values += (match[0] for match in _QUOTED.finditer(text))
        intent = _QUOTED.sub(" ", intent)
        kinds.add("quotation")
    for kind, pattern in _VALUES:
        found = pattern.findall(intent)
        if found:
            values += found
            kinds.add(kind)
            intent = pattern.sub(f" {kind} ", intent)
    return Request(intent, " ".join(values), frozenset(kinds), _clauses(intent))


def _clauses(intent: str) -> tuple[str, ...]:
    sentences = [" ".join(part.split()) for part in _SENTENCE.split(intent)]
    parts = [part.strip() for sentence in sentences for part in _LINK.split(sentence)]
    distinct = dict.fromkeys(part for part in (*sentences, *parts) if len(part) >= _MIN_CLAUSE)
    found = tuple(part for part in distinct if part != " ".join(intent.split()))
    return found[:MAX_CLAUSES] if len(found) > 1 else ()
