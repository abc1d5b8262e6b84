"""Security: texts that steer a model, told by what they say together; the detector weighs the rest. Pure."""

import re
from collections.abc import Callable, Iterator, Set
from functools import cache
from typing import Final

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.quoting import code_point, quote
from mcp_federation.governance.checks.reading import Reading
from mcp_federation.governance.checks.secret_requests import secret_requests
from mcp_federation.governance.detector.lexicon import lexicon
from mcp_federation.governance.detector.passages import Passage, concepts, hidden_texts, passages
from mcp_federation.governance.detector.patterns import Patterns, patterns
from mcp_federation.governance.detector.plain import is_disguised
from mcp_federation.governance.detector.tokens import SECRET_PATH

MIN_HIDDEN_WORDS: Final = 4
"""Words of a decoded text that are a message, and no sample value."""

_WORD = re.compile(r"[^\W\d_]{3,}")
_TAKES = (
    (
        {"user", "secret"},
        "it has the user's secret",
        (
            "(always|must) .. (include|send) user secret",
            "consult user secret .. (before|callthis)? .. (before|callthis)? .. (include|send)",
        ),
    ),
    (
        {"thischat"},
        "it has the model pass on its conversation",
        (
            "(include|send|deliver|write|collect|tell|exfil) ... thischat",
            "(argument|<name>|<literal>) ... thischat",
            "thischat ... (to|with|include) .. (argument|<name>|<literal>|<url>|<email>|destination)",
        ),
    ),
    (
        {"context", "send"},
        "it has the model pass on its conversation",
        (
            "send .. context to? (destination|<url>|<email>)",
            "(before|when|must|always|first) .. send .. context",
        ),
    ),
    (
        {SECRET_PATH, "read"},
        "it has a secret file read",
        ("(before|must|always) ... read .. <secretpath>", "read <secretpath> .. (before|first)"),
    ),
)
"""What takes secrets: concepts that it has to speak of, and the orders of concepts that say so."""

_TURN = re.compile(
    r"^[ \t]*(?:assistant|model)[ \t]*:[ \t]*I(?:'ll|\u2019ll| will| shall| must)\b",
    re.IGNORECASE | re.MULTILINE,
)
_KNOWN_METADATA = re.compile(
    r"169\.254\.169\.254|metadata\.google\.internal|100\.100\.100\.200|fd00:ec2::254|169\.254\.170\.2",
    re.IGNORECASE,
)
_HINTS = ("169.254", "etadata", "100.100", "ec2")
"""Of which every such address has one: cheaper to look for."""


def _saying(pattern: str, what: str) -> Callable[[Reading], Iterator[Sighting]]:
    """One sighting, of the first passage with the pattern."""
    wanted = patterns().names.index(pattern)

    def search(reading: Reading) -> Iterator[Sighting]:
        if wanted not in concepts(reading):
            return
        for passage in passages(reading):
            if wanted in passage.concepts:
                yield Sighting(passage.text.where, f"{what}: “{_quoted(passage)}”")
                return

    return search


conceals = check(
    "conceals-from-user",
    "medium",
    rationale="An honest tool has nothing to hide from the person that it works for.",
    remedy="Take out what tells the model to keep something from its user.",
)(_saying("hides_from_user", "it tells the model to hide something from its user"))

overrides = check(
    "overrides-instructions",
    "medium",
    rationale="A description that undoes other instructions takes over the conversation.",
    remedy="Take out what is said about other instructions; a tool's description has no say in them.",
)(_saying("drops_instructions", "it tells the model to disregard its instructions"))

_in_tag = _saying("tagged_order", "instructions stand in a tag that models obey")


@check(
    "tagged-instructions",
    "medium",
    rationale="Tags such as <system>, or a turn of the assistant's, pass a stranger's text off as another's.",
    remedy="Write the description as plain text, without tags and turns that address the model.",
)
def tagged(reading: Reading) -> Iterator[Sighting]:
    """Orders in tags, and lines that read as what the model itself has said."""
    yield from _in_tag(reading)
    if _TURN.search(reading.everything):
        for text in reading.texts:
            match = next(
                (each for each in _TURN.finditer(text.text) if not _in_example(text.text, each.start())), None
            )
            if match:
                shown = quote(text.text[match.start() :].strip())
                yield Sighting(text.at(match.start()), f"it speaks for the model: “{shown}”")


def _in_example(text: str, at: int) -> bool:
    """Whether the place is inside of `<example>`: how a conversation may go, and no turn of this one."""
    return text.rfind("<example>", 0, at) > text.rfind("</example>", 0, at)


_takes_secrets = _saying("takes_secrets", "it has the model hand over secrets or what was said")


@check(
    "takes-secrets",
    "medium",
    rationale="Keys, passwords and conversations are no argument of a tool; who asks for them wants them.",
    remedy="Have the server read its own credentials; ask for no file, secret or conversation.",
)
def secrets(reading: Reading) -> Iterator[Sighting]:
    """Orders to hand over what is secret, that which only the user knows among it."""
    found = list(_takes_secrets(reading))
    for needed, ways, what in _ways_to_take():
        found = found or list(_beside(reading, needed, ways, what))
    yield from found or secret_requests(reading)


def _beside(reading: Reading, needed: Set[int], ways: Patterns, what: str) -> Iterator[Sighting]:
    """One sighting, of the first passage with all of the concepts and one of the patterns over them."""
    if not needed <= concepts(reading):
        return
    first_pattern = len(lexicon().names)
    for passage in passages(reading):
        hits = [hit for hit in passage.hits if hit[1] < first_pattern]
        if needed <= passage.concepts and len(ways.extended(hits)) > len(hits):
            yield Sighting(passage.text.where, f"{what}: “{_quoted(passage)}”")
            return


@cache
def _ways_to_take() -> tuple[tuple[Set[int], Patterns, str], ...]:
    known = lexicon()
    return tuple(
        ({known.names.index(name) for name in needed}, Patterns(known, {"takes": ways}), what)
        for needed, what, ways in _TAKES
    )


@check(
    "encoded-text",
    "medium",
    rationale="Models read base64 and hexadecimal; people do not, and approve what they cannot read.",
    remedy="Write the text as it is, or leave it out.",
)
def encoded(reading: Reading) -> Iterator[Sighting]:
    """Sentences that are encoded in a text."""
    for text, hidden in hidden_texts(reading):
        if len(hidden.split()) >= MIN_HIDDEN_WORDS:
            yield Sighting(text.where, f"encoded in it stands “{quote(hidden)}”")


@check(
    "look-alike-letters",
    "medium",
    rationale="Letters of another script inside of a word hide it from filters, and from nobody else.",
    remedy="Write each word in one script.",
)
def look_alike_letters(reading: Reading) -> Iterator[Sighting]:
    """Words that mix plain letters with look-alikes of another script."""
    if reading.everything.isascii():
        return
    for text in reading.texts:
        if text.path == ("name",) or text.text.isascii():
            continue
        word = next((word for word in _WORD.findall(text.text) if is_disguised(word)), "")
        if word:
            stranger = next(char for char in word if not char.isascii())
            yield Sighting(text.where, f"“{quote(word)}” is disguised with {code_point(stranger)}")


@check(
    "metadata-address",
    "medium",
    rationale="Cloud metadata addresses hand out a machine's credentials to whatever is made to fetch them.",
    remedy="Take the address out; a tool that has to name it is for a person to admit.",
)
def metadata_address(reading: Reading) -> Iterator[Sighting]:
    """Addresses of cloud metadata services in descriptions, defaults and examples."""
    if not any(hint in reading.everything for hint in _HINTS):
        return
    for text in reading.texts:
        if text.path[0] in ("source_repo", "server_url"):
            continue
        match = _KNOWN_METADATA.search(text.text)
        if match:
            yield Sighting(
                text.at(match.start()), f"“{match[0]}” is the address of a cloud's metadata service"
            )


def _quoted(passage: Passage) -> str:
    return quote(" ".join(passage.words), 120)


CHECKS: tuple[Check, ...] = (
    conceals,
    overrides,
    tagged,
    secrets,
    encoded,
    look_alike_letters,
    metadata_address,
)
