"""What a word of a request tells: "help", "find" and "new" stand in requests of any kind."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec

HALF = 0.05
"""The share of all requests that have a word at which it tells half."""


def telling(term: str) -> float:
    """What a term of a request counts, in (0, 1]: the less, the more requests of all kinds have it."""
    return HALF / (HALF + _shares().get(term, 0.0))


@cache
def _shares() -> Mapping[str, float]:
    """The share of requests that have a term, of those terms that many kinds have; see `data/README.md`."""
    stored = (files("mcp_federation.engine.search") / "data" / "common_words.json").read_bytes()
    return msgspec.json.decode(stored, type=dict[str, float])
