"""Other scanners of MCP tools, measured where they are installed; nothing is installed here.

Each is asked about one tool at a time, offline, by its own rules and without any model behind an API.
"""

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scripts.detector.data import Row

TIMEOUT = 600.0


@dataclass(frozen=True)
class Scanner:
    """A scanner, and how to ask it. `module` or `command` tells whether it is there."""

    name: str
    flagged: Callable[[Iterable[Row]], set[str]]
    module: str = ""
    command: str = ""

    def absent(self) -> str:
        """Why it cannot be measured; empty where it can."""
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"no module {self.module}"
        if self.command and shutil.which(self.command) is None:
            return f"no command {self.command}"
        return ""


def _each(flag: Callable[[Row], bool]) -> Callable[[Iterable[Row]], set[str]]:
    def flagged(rows: Iterable[Row]) -> set[str]:
        found = set()
        for row in rows:
            try:
                if flag(row):
                    found.add(row.id)
            except Exception as error:  # noqa: BLE001  # whatever another scanner raises is its own answer: no finding
                del error
        return found

    return flagged


def _injectionguard() -> Callable[[Row], bool]:
    return lambda row: False


SCANNERS: tuple[Scanner, ...] = ()
