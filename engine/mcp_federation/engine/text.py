"""Text into terms: any Unicode in, stemmed lower-case terms out. Pure and deterministic."""

import re
import unicodedata

import Stemmer

MAX_TEXT = 20_000
"""Characters of a text that are looked at; the rest is ignored."""

_MAX_WORD = 64

_STOP_WORDS = """
    a about all am an and any are as at be been but by can could did do does for from had has have he her
    his how i if in into is it its just like may me might must my need no not of on or our out please she
    should so some such than that the their them then there these they this those to up us want was we were
    what when where which who why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SYMBOL = "[\u2600-\u27bf\U0001f000-\U0001faff]"
_WORD = re.compile(rf"([{_UNSPACED}]+)|((?:(?![{_UNSPACED}])\w){{2,}}|{_SYMBOL})")
_CASE_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NAME_PART = re.compile(rf"\w+|{_SYMBOL}")
_stemmer = Stemmer.Stemmer("english")


def normalise(text: str) -> str:
    """Lower case, compatibility forms unified, marks (accents, vowel signs) dropped."""
    text = text[:MAX_TEXT]
    if text.isascii():
        return text.lower()
    # One character may stand for eighteen.
    decomposed = unicodedata.normalize("NFKD", text.casefold())[:MAX_TEXT]
    bare = "".join(char for char in decomposed if not unicodedata.category(char).startswith("M"))
    return unicodedata.normalize("NFC", bare)


def well_formed(text: str) -> str:
    """The text with a `?` for each lone surrogate, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def terms(text: str) -> list[str]:
    """The text's terms in order: English words stemmed, stop words and single letters left out.

    `snake_case` stays one word: in a request it is an identifier or a file, not what is asked for.
    Scripts that put no space between words (Chinese, Japanese, Thai, …) give pairs of characters, emoji stand
    for themselves.
    """
    found: list[str] = []
    for unspaced, word in _WORD.findall(normalise(text)):
        if unspaced:
            found += [unspaced[i : i + 2] for i in range(len(unspaced) - 1)] or [unspaced]
        elif word not in STOP_WORDS:
            found.append(_stemmer.stemWord(word[:_MAX_WORD]) if word.isascii() else word[:_MAX_WORD])
    return found


def name_words(name: str) -> str:
    """A name as words, split on punctuation and case: `get_userID` gives `get user ID get_userID`.

    A part that is split is kept whole as well, so that `GitHub` is found by "github".
    """
    words: list[str] = []
    for part in _NAME_PART.findall(name[:MAX_TEXT]):
        pieces = [piece for word in part.split("_") for piece in _CASE_BORDER.split(word) if piece]
        words += pieces if pieces == [part] else [*pieces, part]
    return " ".join(words)
