"""Quality and security of the names and versions that tools go by. Pure."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal

from semver import Version

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.quoting import code_point, quote
from mcp_federation.governance.checks.reading import Reading

MAX_NAME: Final = 128
"""Characters; what MCP recommends as the longest tool name."""

_RECOMMENDED = re.compile(r"[A-Za-z0-9_.\-/]+")
_WORDS = re.compile(r"[^\W\d_]+")
_VERSION_LIKE = re.compile(r"[vV]?\d+(?:[.\-+_ ]?[0-9A-Za-z]{1,40}){0,12}")
_LOOKALIKE_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"})


@check(
    "name-too-long",
    "medium",
    rationale="Clients cut or refuse long names, and two of them can then become one.",
    remedy=f"Shorten the tool's name (or its server's) to at most {MAX_NAME} characters together.",
)
def too_long(reading: Reading) -> Iterator[Sighting]:
    """Names over the bound."""
    length = len(reading.registration.tool.name)
    if length > MAX_NAME:
        yield Sighting("name", f"the name has {length} characters, over {MAX_NAME}")


@check(
    "name-not-printable",
    "high",
    rationale="A name with line breaks or blanks at its ends cannot be told from another in a list.",
    remedy="Use visible characters in the name, and none that are blank at its start or end.",
)
def not_printable(reading: Reading) -> Iterator[Sighting]:
    """Names that do not show as what they are."""
    name = reading.registration.tool.name
    unprintable = next((char for char in name if not char.isprintable()), "")
    if unprintable:
        yield Sighting(f"name[{name.index(unprintable)}]", f"{code_point(unprintable)} cannot be printed")
    elif name != name.strip():
        yield Sighting("name", "the name is blank, or has blanks at its start or end")


@check(
    "name-not-recommended",
    "info",
    rationale="MCP recommends letters, digits and _ - . / only; some clients take nothing else.",
    remedy="Keep to those characters, and move a name for people into the title.",
)
def not_recommended(reading: Reading) -> Iterator[Sighting]:
    """Names outside of MCP's recommended alphabet."""
    name = reading.registration.tool.name
    if not _RECOMMENDED.fullmatch(name):
        yield Sighting("name", f"“{quote(name)}” has characters other than A-Z, a-z, 0-9, _ - . /")


@check(
    "version-not-semver",
    "low",
    rationale="Consumers order versions by semver 2.0.0; anything else has no order.",
    remedy="Give a version such as 1.2.0 (three numbers, no leading zeros, no leading v).",
)
def not_semver(reading: Reading) -> Iterator[Sighting]:
    """Versions that read as a version and are no semantic one."""
    version = reading.registration.tool.version
    if _kind_of_version(version) == "like one":
        yield Sighting("version", f"“{quote(version)}” is no semantic version")


@check(
    "version-meaningless",
    "medium",
    rationale="Without a version nobody can say which state of the tool was approved, or what changed since.",
    remedy="Give a version such as 1.2.0; write the word that stands there now into the description.",
)
def meaningless_version(reading: Reading) -> Iterator[Sighting]:
    """Versions that are none."""
    version = reading.registration.tool.version
    if _kind_of_version(version) == "none":
        yield Sighting("version", f"“{quote(version)}” is no version" if version else "the version is empty")


@check(
    "confusable-name",
    "high",
    rationale="A name that looks like another one is called in its place.",
    remedy="Write each word of the name in one script, with plain letters.",
)
def confusable(reading: Reading) -> Iterator[Sighting]:
    """Names with words of several look-alike scripts, or with letters that only look like ASCII."""
    name = reading.registration.tool.name
    if name.isascii():
        return
    for match in _WORDS.finditer(name):
        scripts = sorted({script for char in match[0] if (script := _script(char)) in _LOOKALIKE_SCRIPTS})
        if len(scripts) > 1:
            mixed = " and ".join(script.capitalize() for script in scripts)
            stranger = next(char for char in match[0] if not char.isascii())
            why = f"“{quote(match[0])}” mixes {mixed} letters that look alike ({code_point(stranger)})"
            yield Sighting(f"name[{match.start()}]", why)
    for index, char in enumerate(name):
        plain = unicodedata.normalize("NFKC", char)
        if char != plain and plain.isascii() and plain.isalnum():
            yield Sighting(
                f"name[{index}]", f"{code_point(char)} looks like a plain “{plain}” and is another letter"
            )
            return


@lru_cache
def _kind_of_version(version: str) -> Literal["semantic", "like one", "none"]:
    if Version.is_valid(version):
        return "semantic"
    return "like one" if _VERSION_LIKE.fullmatch(version) else "none"


def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0]


QUALITY: tuple[Check, ...] = (too_long, not_printable, not_recommended, not_semver, meaningless_version)
SECURITY: tuple[Check, ...] = (confusable,)
