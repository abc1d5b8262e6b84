"""Writes attacks, and honest look-alikes of them, over honest tools: seeded, by family and language."""

import random
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
MAX_DEPTH: Final = 12

_CHOICE = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"\{([a-z]+)\}")
_BLANKS = re.compile(r"\s+")
_LOOSE = re.compile(r" (?=[.,;:!?](?:\s|$))")


@dataclass(frozen=True, slots=True)
class Text:
    """A generated text, and the family and language that it is of."""

    family: str
    language: str
    text: str


class Writer:
    """Expands templates, with the names of honest tools for what they speak of."""

    def __init__(self, pick: random.Random, names: Sequence[str]) -> None:
        self._pick = pick
        self._names = names
        self._made: Mapping[str, Callable[[], str]] = {
            "other": self._name,
            "ref": self._quoted_name,
            "own": lambda: "this tool",
            **{kind: partial(self._value, kind) for kind in ("literal", "secretpath", "path", "param")},
            "number": lambda: str(self._pick.randrange(10, 99999)),
            "email": lambda: f"{self._value('mailbox')}@{self._value('domain')}",
            "url": lambda: f"https://{self._value('domain')}/{self._value('page')}",
        }

    def write(self, template: str, slots: Mapping[str, Sequence[str]]) -> str:
        """One text that the template allows."""
        text = template
        for _ in range(MAX_DEPTH):
            text = self._choose(text)
            if not _SLOT.search(text):
                break
            text = _SLOT.sub(lambda match: self._fill(match[1], slots), text)
        return _LOOSE.sub("", _BLANKS.sub(" ", text)).strip()

    def _choose(self, text: str) -> str:
        while _CHOICE.search(text):
            text = _CHOICE.sub(lambda match: self._pick.choice(match[1].split("|")), text)
        return text

    def _fill(self, slot: str, slots: Mapping[str, Sequence[str]]) -> str:
        if slot in self._made:
            return self._made[slot]()
        return self._pick.choice(slots[slot])

    def _value(self, kind: str) -> str:
        values: list[str] = _load("attacks.toml")["values"][kind]
        return self._pick.choice(values)

    def _name(self) -> str:
        return self._pick.choice(self._names)

    def _quoted_name(self) -> str:
        return self._pick.choice(("{}", "`{}`", "'{}'", "the {} tool")).format(self._name())


def attacks(pick: random.Random, names: Sequence[str], each: int) -> Iterator[Text]:
    """`each` attacks of every English family, and four times as many in other languages."""
    writer, grammar = Writer(pick, names), _load("attacks.toml")
    shared = grammar["slots"]
    families = grammar["families"]
    plain = [name for name in families if name != "faketag"]
    for family, spec in families.items():
        for _ in range(each):
            slots = {**shared, **spec.get("slots", {})}
            if family == "faketag":
                inner = families[pick.choice(plain)]
                slots = {**shared, **inner.get("slots", {}), "families": inner["en"]}
            yield Text(family, "en", writer.write(pick.choice(spec["en"]), slots))
    for _ in range(4 * each):
        language = pick.choice(list(grammar["languages"]))
        yield Text("foreign", language, writer.write(pick.choice(grammar["languages"][language]), shared))


def capabilities(pick: random.Random, each: int) -> Iterator[Text]:
    """`each` descriptions of harmful tools of every tactic."""
    yield from _of_section(pick, [], "harmful", each)


def honest(pick: random.Random, names: Sequence[str], each: int) -> Iterator[Text]:
    """`each` honest texts of every kind that speak of what attacks speak of."""
    yield from _of_section(pick, names, "honest", each)


def _of_section(pick: random.Random, names: Sequence[str], section: str, each: int) -> Iterator[Text]:
    writer, grammar = Writer(pick, names), _load("capabilities.toml")
    for family, templates in grammar[section].items():
        for _ in range(each):
            yield Text(family, "en", writer.write(pick.choice(templates), grammar["slots"]))


@cache
def _load(name: str) -> Any:
    return tomllib.loads((HERE / name).read_text("utf-8"))
