"""Quality: whether the description tells an agent what the tool is for. Pure."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading

MIN_DESCRIPTION: Final = 12
MAX_DESCRIPTION: Final = 10_000
"""Characters."""

MAX_PLACEHOLDER: Final = 7
"""Words of a placeholder; a lorem ipsum goes on and on."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PLACEHOLDER = re.compile(
    r"(?:an? |the |your |my |some |add |insert |enter )?"
    r"(?:todo|tbd|tba|fixme|xxx+|wip|n a|none|null|undefined|nil|test|testing|foo|bar|foo bar|asdf|qwerty"
    r"|placeholder|description|desc|tool|function|tool description|function description|no description"
    r"|no description (?:available|provided|given|yet)|description here|description goes here"
    r"|coming soon|to be done|to be (?:added|written|defined))(?: here| goes here)?"
)
_LOREM = ["lorem", "ipsum"]


@check(
    "description-missing",
    "low",
    rationale="An agent picks a tool by its description; without one it guesses from the name.",
    remedy="Say in a sentence or two what the tool does, and when to use it.",
)
def missing(reading: Reading) -> Iterator[Sighting]:
    """No description, or a blank one, of a tool that can be called. MCP allows that."""
    if reading.registration.executable and not reading.registration.tool.description.strip():
        yield Sighting("description", "there is no description")


@check(
    "nothing-described",
    "medium",
    rationale="An entry that nothing executes has its description only; one that says nothing is of no use.",
    remedy="Say in a sentence or two what the tool does, and when to use it.",
)
def nothing_described(reading: Reading) -> Iterator[Sighting]:
    """No description, or one under the bound, of an entry that is described only."""
    if not reading.registration.executable and _length(reading) < MIN_DESCRIPTION:
        yield Sighting("description", "it says too little for an entry that is described only")


@check(
    "description-placeholder",
    "medium",
    rationale="A placeholder was meant to be replaced; nothing can be chosen by it.",
    remedy="Replace it by what the tool does, and when to use it.",
)
def placeholder(reading: Reading) -> Iterator[Sighting]:
    """Texts such as “TODO”, “description”, “lorem ipsum”."""
    description = reading.registration.tool.description
    if not description.strip():
        return
    words = _words(description, MAX_PLACEHOLDER + 1)
    is_short = len(words) <= MAX_PLACEHOLDER
    if not words or words[:2] == _LOREM or (is_short and _PLACEHOLDER.fullmatch(" ".join(words))):
        yield Sighting("description", f"“{quote(description)}” is a placeholder")


@check(
    "description-repeats-name",
    "low",
    rationale="A description that is the name again tells an agent nothing that it did not know.",
    remedy="Add what goes in, what comes out, and when to use the tool.",
)
def repeats_name(reading: Reading) -> Iterator[Sighting]:
    """The tool's name, in words."""
    tool = reading.registration.tool
    if len(tool.description) > 2 * len(tool.name) + MIN_DESCRIPTION:
        return
    said = _words(tool.description)
    name = _words(_HUMP.sub(" ", tool.name))
    if said and said == name[-len(said) :]:
        yield Sighting("description", f"“{quote(tool.description)}” only repeats the name")


def _length(reading: Reading) -> int:
    """Characters up to the bound; an ideograph says as much as three letters."""
    description = reading.registration.tool.description.strip()
    return sum(3 if char >= "\u2e80" else 1 for char in description[:MIN_DESCRIPTION])


@check(
    "description-too-short",
    "low",
    rationale="A word or two do not tell an agent this tool from the next one.",
    remedy="Say in a sentence what the tool does, and when to use it.",
)
def too_short(reading: Reading) -> Iterator[Sighting]:
    """Descriptions under the bound."""
    description = reading.registration.tool.description.strip()
    if reading.registration.executable and 0 < _length(reading) < MIN_DESCRIPTION:
        yield Sighting("description", f"the description has {len(description)} characters")


@check(
    "description-too-long",
    "medium",
    rationale="Every agent that is offered the tool pays for its description in tokens.",
    remedy=f"Shorten it to at most {MAX_DESCRIPTION:,} characters; a few hundred serve best.",
)
def too_long(reading: Reading) -> Iterator[Sighting]:
    """Descriptions over the bound."""
    length = len(reading.registration.tool.description)
    if length > MAX_DESCRIPTION:
        yield Sighting("description", f"the description has {length:,} characters, over {MAX_DESCRIPTION:,}")


def _words(text: str, most: int | None = None) -> list[str]:
    return [match[0].lower() for match in islice(_WORD.finditer(text), most)]


CHECKS: tuple[Check, ...] = (missing, nothing_described, placeholder, repeats_name, too_short, too_long)
