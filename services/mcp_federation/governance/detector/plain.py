"""Text as a model reads it, whatever it was dressed up as. Pure.

A model reads through look-alike letters, invisible characters, odd blanks and base64; so do the checks.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import Final
from urllib.parse import unquote

SHORTEST_CODE: Final = 16
"""Characters of an encoded text."""

MAX_DECODED: Final = 8
"""The most encoded pieces of one text that are decoded."""

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0080-\U000e0fff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_MARKS = re.compile("[\u0300-\u036f]")
_OTHER_SCRIPTS = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"})
_WORD = re.compile(r"[^\W\d_]+")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,4096}={0,2}")
_HEX = re.compile(r"(?<![0-9A-Fa-f])(?:(?:\\x|0x)?[0-9A-Fa-f]{2}[\s,:]?){12,2048}(?![0-9A-Fa-f])")
_CODE = re.compile(r"\d+")
_ESCAPES = re.compile(r"(?:\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|&#x?[0-9A-Fa-f]{2,6};){6,}")
_ESCAPE = re.compile(r"(?:\\[ux]|&#)(x?)([0-9A-Fa-f]{2,6});?")
_PERCENT = re.compile(r"(?:[\w.+~-]{0,64}%[0-9A-Fa-f]{2}){4,}[\w.+~-]{0,64}")
_BASE32 = re.compile(r"(?<![A-Za-z0-9])[A-Z2-7]{24,4096}={0,6}(?![A-Za-z0-9])")
_DECIMAL = re.compile(r"(?<!\d)(?:\d{2,3}[\s,;]{1,2}){12,2048}\d{2,3}(?!\d)")
_SPACED_CODES = re.compile(r"[\s,:](?:[0-9A-Fa-f]{2,3}[\s,:]{1,2}){5}")
_ROT13 = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM",
)
_TURNED = (" gur ", " naq ", " gb ", " eht ", " dna ", " ot ")
"""The commonest words as rot13 and a reader from right to left have them; one is in any sentence or two."""

_LEET = (
    "th3",
    "4nd ",
    " t0 ",
    "us3r",
    "1nstr",
    "1gn0r",
    "f1l3",
    "r34d",
    "s3nd",
    "k3y",
    "p4ss",
    "s3cr3t",
    "t00l",
)
"""Pieces of the words that such a message is about; a few of them are in any."""

_LEET_WORD = re.compile(r"[\w@$]*[013457@$][\w@$]*")
_UNLEET = str.maketrans("013457@$", "oieastas")

_COMMON = frozenset(
    (
        "all",
        "and",
        "any",
        "before",
        "file",
        "files",
        "from",
        "ignore",
        "instructions",
        "into",
        "its",
        "never",
        "not",
        "previous",
        "read",
        "secret",
        "send",
        "the",
        "this",
        "tool",
        "user",
        "with",
        "you",
    )
)
_LEAST_COMMON = 3
_LONG = re.compile(rf"\S{{{SHORTEST_CODE},}}")
_NAME = re.compile(r"\W*[A-Za-z]?[a-z]+(?:[A-Z_.-][a-z]+)*\W*")
"""An identifier of plain words, such as `read_many_files`: no message is encoded to that."""

_BLANKS = re.compile(r"\s+")


def plain(text: str) -> str:
    """The text with compatibility forms, invisible characters and look-alike letters undone."""
    if text.isascii():
        return text
    text = _TAGS.sub(lambda match: f" {_untagged(match[0])} ", text)
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    if text.isascii():
        return text
    return _WORD.sub(lambda match: _latin(match[0]), text)


def skeleton(name: str) -> str:
    """What a name looks like at a glance: equal for names that are taken for one another."""
    folded = "".join(_homoglyphs().get(char, char) for char in plain(name))
    folded = "".join(char for char in unicodedata.normalize("NFD", folded.lower()) if char.isalnum())
    return folded.translate(_GLANCE).replace("rn", "m").replace("vv", "w")


def spelling(name: str) -> str:
    """A name without regard to case and separators, which nobody takes for another name's."""
    return "".join(char for char in name.lower() if char.isalnum())


def is_slip(name: str, other: str) -> bool:
    """Whether one name is the other but for a letter: dropped, doubled, another one, or two swapped.

    A digit is no letter: `search` and `search2` are told apart on purpose.
    """
    one, two = sorted((spelling(name), spelling(other)), key=len)
    if len(one) < _SHORTEST_SLIP or len(two) - len(one) > 1:
        return False
    start = next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), len(one))
    one, two = one[start:], two[start:]
    if any(char.isdigit() for char in (*one[:1], *two[:1])):
        return False
    swapped = one[:2] == two[1::-1] and one[2:] == two[2:]
    return two != "" and (one == two[1:] or one[1:] == two[1:] or swapped)


def is_disguised(word: str) -> bool:
    """Whether a word mixes plain letters with look-alikes of another script."""
    if word.isascii() or _latin(word) == word or not any(char.isascii() for char in word):
        return False
    scripts = {unicodedata.name(char, "").partition(" ")[0] for char in word if not char.isascii()}
    return not scripts.isdisjoint(_OTHER_SCRIPTS)


def decoded(text: str) -> Iterator[str]:
    """Readable texts that the text is a code of: base64, base32, numbers, escapes, rot13, from behind."""
    for _ in range(2):
        found = list(_decoded_once(text))[:MAX_DECODED] if may_be_encoded(text) else []
        yield from found
        text = " ".join(found)
        if not text:
            return


def may_be_encoded(text: str) -> bool:
    """Whether anything in it may be encoded; false for nearly all texts, alone and together."""
    return (
        any(mark in text for mark in ("\\", "&#", "%"))
        or any(not _NAME.fullmatch(word) for word in _LONG.findall(text))
        or _SPACED_CODES.search(text) is not None
        or any(word in text for word in _TURNED)
        or any(word in text for word in _LEET)
    )


_SHORTEST_SLIP: Final = 5
"""Letters of a name that a slip of the pen is told in; shorter ones are a letter apart by chance."""

_GLANCE = str.maketrans("01i5", "olls")


def _untagged(tags: str) -> str:
    return "".join(chr(ord(char) - 0xE0000) for char in tags if 0x20 <= ord(char) - 0xE0000 < 0x7F)


def _latin(word: str) -> str:
    """A word that mixes scripts, or has nothing but look-alikes, in Latin letters; any other unchanged."""
    if word.isascii():
        return word
    homoglyphs = _homoglyphs()
    marked = unicodedata.normalize("NFD", word)
    bare = _MARKS.sub("", marked)
    if bare.isascii():
        return word
    folded = "".join(homoglyphs.get(char, char) for char in bare)
    return folded if folded.isascii() else word


def _decoded_once(text: str) -> Iterator[str]:
    yield from _turned(text)
    yield from _spelled_in_digits(text)
    for match in _BASE32.finditer(text):
        bare = match[0].rstrip("=")
        with suppress(binascii.Error):
            yield from _readable(base64.b32decode(bare + "=" * (-len(bare) % 8)))
    for match in _DECIMAL.finditer(text):
        yield from _readable(bytes(min(int(code), 255) for code in _CODE.findall(match[0])))
    for match in _BASE64.finditer(text):
        yield from _readable(_from_base64(match[0]))
    for match in _HEX.finditer(text):
        digits = re.sub(r"\\x|0x|[^0-9A-Fa-f]", "", match[0])
        yield from _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))
    if "\\" in text or "&#" in text:
        for match in _ESCAPES.finditer(text):
            yield _ESCAPE.sub(_unescaped, match[0])
    if "%" in text:
        for match in _PERCENT.finditer(text):
            yield unquote(match[0])


def _turned(text: str) -> Iterator[str]:
    """The text as rot13 or read from right to left, where words come out that are in any text."""
    if any(word in text for word in _TURNED):
        for turned in (text.translate(_ROT13), text[::-1]):
            if len(_COMMON.intersection(_WORD.findall(turned))) >= _LEAST_COMMON:
                yield turned


def _spelled_in_digits(text: str) -> Iterator[str]:
    """The text with letters for its digits, where words that are in any text come out: `r34d th3 f1l3`."""
    words = [word.translate(_UNLEET).lower() for word in _LEET_WORD.findall(text)]
    if len(_COMMON.intersection(words)) >= _LEAST_COMMON:
        yield text.translate(_UNLEET)


def _unescaped(match: re.Match[str]) -> str:
    is_decimal = match[0].startswith("&#") and not match[1]
    number = int(match[2], 10 if is_decimal and match[2].isdigit() else 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else " "


def _from_base64(text: str) -> bytes:
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(bare[: len(bare) - (len(bare) % 4 == 1)] + "=" * (-len(bare) % 4))
    except binascii.Error:
        return b""


def _readable(raw: bytes) -> Iterator[str]:
    """The bytes as text, where it is text that somebody wrote."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    if _BASE64.fullmatch(text):
        yield text  # encoded twice
    elif len(text) >= 8 and _BLANKS.search(text):
        letters = sum(char.isalpha() or char.isspace() for char in text)
        if letters >= 0.7 * len(text):
            yield text


@cache
def _homoglyphs() -> dict[str, str]:
    lines = resources.files(__package__).joinpath("homoglyphs.txt").read_text("utf-8").splitlines()
    rows = (line.split(" ", 1) for line in lines if not line.startswith("#"))
    return {char: letter for letter, chars in rows for char in chars}
