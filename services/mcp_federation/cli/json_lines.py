"""Where things stand in a JSON file, by line."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_MARK: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_INSIDE_TEXT: Final = re.compile(r"(?: \(the name\))?(?:\[\d+\])?$")

Keys = tuple[str, ...]
"""The keys and indices that lead to a value."""


@dataclass
class Places:
    """The line, from 1, on which each value of a text begins, and what leads to the first of each `name`."""

    lines: dict[Keys, int] = field(default_factory=dict)
    named: dict[str, Keys] = field(default_factory=dict)


def places(text: str) -> Places:
    """Where the values of a JSON text stand; of one that is not quite JSON, those that can be told."""
    found = Places()
    at: list[str | int | None] = []  # a key or an index for each open container; None where a key comes next
    for number, line in enumerate(text.split("\n"), 1):
        for mark in _MARK.findall(line):
            if mark in "}]":
                del at[-1:]
            elif mark == ",":
                at[-1:] = [last + 1 if isinstance(last, int) else None for last in at[-1:]]
            elif at and at[-1] is None:
                at[-1] = _string(mark)
            elif mark != ":":
                keys = tuple(map(str, at))
                found.lines.setdefault(keys, number)
                if keys[-1:] == ("name",):
                    found.named.setdefault(_string(mark), keys[:-1])
                if mark in "{[":
                    at.append(None if mark == "{" else 0)
    return found


class FileLines:
    """Where findings lie in files; each file is read once."""

    def __init__(self) -> None:
        self._files: dict[Path, Places] = {}

    def of(self, file: Path, server: str, tool: str, where: str) -> int:
        """The line of the innermost that stands in the file: what was found, its tool, its server; else 1."""
        if file not in self._files:
            try:
                self._files[file] = places(file.read_text(encoding="utf-8-sig"))
            except (OSError, UnicodeDecodeError):
                self._files[file] = Places()
        lines = self._files[file].lines
        start = self._files[file].named.get(tool)
        if start is None:
            return next((line for keys, line in lines.items() if keys[-1:] == (server,)), 1)
        inside = [part.replace("~1", "/") for part in _INSIDE_TEXT.sub("", where).split("/")]
        while inside and (*start, *inside) not in lines:
            inside.pop()
        return lines[(*start, *(inside or ["name"]))]


def _string(mark: str) -> str:
    try:
        return str(json.loads(mark))
    except ValueError:
        return mark
