"""Security: characters that a person does not see and a model reads. Pure.

Some of them have honest uses, which are let through: joiners inside emoji and in the scripts that are
written with them, selectors behind what they select, direction marks in text that runs right to left.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.quoting import code_point, context_before, quote
from mcp_federation.governance.checks.reading import Reading, Text

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]"
)
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_SELECTOR = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0080-\U000e0fff]")
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)
_PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]")

_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u20e3\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f"
    "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_KEYCAP = re.compile("[0-9#*]\ufe0f\u20e3")
_FIRST_TAG = 0xE0000
_FLAG = re.compile(
    "\U0001f3f4(?:{}|{}|{})\U000e007f".format(
        *(
            "".join(chr(_FIRST_TAG + ord(letter)) for letter in region)
            for region in ("gbeng", "gbsct", "gbwls")
        )
    )
)
_JOINING = re.compile(
    "[\u0620-\u070c\u070f-\u08ff\u0900-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff"
    "\u1800-\u180a\u1810-\u18af\ua840-\ua87f\ua8e0-\ua8ff\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]"
)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1980-\u19ff\u1a20-\u1aaf\uaa60-\uaa7f]"
)
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u05ff\u0620-\u064a\u066e-\u08ff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]"
)
_REACH = 64  # characters between a direction mark and the text that it is for
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_MONGOLIAN = re.compile("[\u1820-\u18aa]")
_MATH_SIGN = re.compile("[\u2200-\u22ff\u2a00-\u2aff]")

_KEPT = 16  # readings that are remembered as plain for the next check

Honest = Callable[[str, int], bool]


def _is_honest_joiner(text: str, index: int) -> bool:
    before, char, after = _around(text, index)
    match char:
        case "\u200d":
            in_emoji = bool((before == "\ufe0f" or _EMOJI.match(before)) and _EMOJI.match(after))
            return in_emoji or bool(_JOINING.match(before))
        case "\u200c":
            return bool(_JOINING.match(before))
        case "\u200b":
            return bool(_UNSPACED.match(before) and _UNSPACED.match(after))
        case "\u180e":
            return bool(_MONGOLIAN.match(before))
    return False


def _is_honest_mark(text: str, index: int) -> bool:
    before, char, _ = _around(text, index)
    is_lone_mark = char in "\u061c\u200e\u200f" and not _DIRECTION.match(before)
    return is_lone_mark and bool(_RIGHT_TO_LEFT.search(text, max(0, index - _REACH), index + _REACH))


def _is_honest_selector(text: str, index: int) -> bool:
    before, char, _ = _around(text, index)
    if char in "\ufe0e\ufe0f":
        return bool(_EMOJI.match(before) or (index and _KEYCAP.match(text, index - 1)))
    if "\ufe00" <= char <= "\ufe02":
        return bool(_IDEOGRAPH.match(before) or _MATH_SIGN.match(before))
    if "\U000e0100" <= char <= "\U000e0107":
        return bool(_IDEOGRAPH.match(before))
    return char in "\u180b\u180c\u180d\u180f" and bool(_MONGOLIAN.match(before))


def _around(text: str, index: int) -> tuple[str, str, str]:
    return text[index - 1 : index] if index else "", text[index], text[index + 1 : index + 2]


def _never(text: str, index: int) -> bool:
    return False


@lru_cache(maxsize=_KEPT)
def _is_plain(reading: Reading) -> bool:
    """Whether there is nothing but visible ASCII, blanks and line breaks, as in most tools."""
    text = reading.everything
    return text.isascii() and text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable()


def _search(
    pattern: re.Pattern[str], effect: str, honest: Honest = _never
) -> Callable[[Reading], Iterator[Sighting]]:
    """One sighting for each text in which the pattern is found and not honest."""

    def search(reading: Reading) -> Iterator[Sighting]:
        if _is_plain(reading) or not pattern.search(reading.everything):
            return
        for text in reading.texts:
            found = [
                match.start() for match in pattern.finditer(text.text) if not honest(text.text, match.start())
            ]
            if found:
                yield _sighting(text, found, effect)

    return search


def _sighting(text: Text, found: list[int], effect: str) -> Sighting:
    first = found[0]
    words = context_before(text.text, first)
    place = f" after “{words}”" if words else ""
    others = f" and {len(found) - 1} more like it" if len(found) > 1 else ""
    return Sighting(text.at(first), f"{code_point(text.text[first])}{place}{others}: {effect}")


hidden_character = check(
    "hidden-character",
    "high",
    rationale="Invisible characters hide words from people and from filters, not from models.",
    remedy="Delete the character; retype the text around it if it came with a copy from the web.",
)(_search(_INVISIBLE, "it shows nothing, and a model reads it", _is_honest_joiner))

bidirectional_control = check(
    "bidirectional-control",
    "high",
    rationale="Direction controls make a text look like another one than the model reads (“Trojan Source”).",
    remedy="Delete the character; text in Hebrew or Arabic needs at most the marks U+200E and U+200F.",
)(_search(_DIRECTION, "it changes the order in which the text is shown, not read", _is_honest_mark))

variation_selector = check(
    "variation-selector",
    "high",
    rationale="Selectors with nothing to select are invisible, and each can carry a byte.",
    remedy="Delete the character; it belongs behind an emoji, an ideograph or a mathematical sign only.",
)(
    _search(
        _SELECTOR, "it selects nothing here, shows nothing, and can carry hidden data", _is_honest_selector
    )
)

control_character = check(
    "control-character",
    "high",
    rationale="Control characters rewrite what a terminal or a log shows; text needs none but line breaks.",
    remedy="Delete the character; use plain line breaks and tabs for layout.",
)(_search(_CONTROL, "it is a control or a non-character, and belongs in no text"))

private_use_character = check(
    "private-use-character",
    "medium",
    rationale="Private use characters mean what each font or model makes of them.",
    remedy="Replace the character by a public one (an emoji instead of an icon font's glyph), or by a word.",
)(_search(_PRIVATE_USE, "nobody but its author knows what it stands for"))


@check(
    "tag-characters",
    "critical",
    rationale="Tag characters are an invisible copy of ASCII: whole instructions fit between two letters.",
    remedy="Delete them, and find out how they came into the text: nobody types them by accident.",
)
def tag_characters(reading: Reading) -> Iterator[Sighting]:
    """Tags (U+E0000 to U+E007F) outside of the three flags that are made with them."""
    if _is_plain(reading):
        return
    for text in reading.texts:
        flags = {(match.start() + 1, match.end()) for match in _FLAG.finditer(text.text)}
        for match in _TAGS.finditer(text.text):
            if match.span() not in flags:
                tags = match[0]
                spelled = quote("".join(chr(ord(char) - _FIRST_TAG) for char in tags))
                why = f"{len(tags)} invisible characters, first {code_point(tags[0])}, spell “{spelled}”"
                yield Sighting(text.at(match.start()), why)


CHECKS: tuple[Check, ...] = (
    hidden_character,
    bidirectional_control,
    tag_characters,
    variation_selector,
    control_character,
    private_use_character,
)
