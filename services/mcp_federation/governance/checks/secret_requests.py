"""Secrets asked for in a sentence, in English and in languages that the lexicon does not read well. Pure."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources

from mcp_federation.governance.checks.check import Sighting
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading
from mcp_federation.governance.detector.lexicon import lexicon
from mcp_federation.governance.detector.passages import concepts
from mcp_federation.governance.detector.plain import plain
from mcp_federation.governance.detector.tokens import bare

_SENTENCE = re.compile(r"(?:[^.!?\u061f\u0964\n]|\.(?=\w))+")
_FOLDED = {ord("\u0131"): "i", 0x640: None, **dict.fromkeys(range(0x64B, 0x653))}
_ALEF = re.compile("[\u0622\u0623\u0625]")


def secret_requests(reading: Reading) -> Iterator[Sighting]:
    """One sighting, of the first sentence that orders to ask for a secret or to hand it over."""
    speaks_of_secrets = lexicon().names.index("secret") in concepts(reading)
    for text in reading.texts:
        if text.is_key or (text.text.isascii() and not speaks_of_secrets):
            continue
        shown = plain(text.text)
        folded = _folded(shown)
        spoken = [parts for parts in _languages() if parts[0].search(folded)]
        for sentence in _SENTENCE.findall(shown) if spoken else ():
            folded = _folded(sentence)
            if any(all(part.search(folded) for part in parts) for parts in spoken):
                why = f"it has the model ask for secrets, or hand them on: “{quote(sentence.strip(), 120)}”"
                yield Sighting(text.where, why)
                return


def _folded(text: str) -> str:
    """In lower case, without what is written or left out as one likes."""
    return _ALEF.sub("\u0627", bare(text).translate(_FOLDED))


@cache
def _languages() -> tuple[tuple[re.Pattern[str], ...], ...]:
    file = resources.files("mcp_federation.governance.detector").joinpath("requests.toml")
    languages = tomllib.loads(file.read_text("utf-8"))
    return tuple(tuple(map(re.compile, language.values())) for language in languages.values())
