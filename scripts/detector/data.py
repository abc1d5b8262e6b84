"""Labelled tools in files of JSON lines: a tool a line, with its `source` and `license`.

Attacks carry `attack` and `signal` (where it shows), honest tools a `kind`. Other files are left alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mcp_federation.contract.messages import Registration, Tool

IN_THE_WILD: Final = "in_the_wild"
DUAL_USE: Final = "dual_use_security"
DECLARED: Final = "declared_capability"

_LICENCES = re.compile(r"(?:MIT|Apache-2\.0|BSD-[23]-Clause|CC0-1\.0|ISC|Unlicense)(?: \(repo\))?")
_NO_DIGEST = f"sha256:{'0' * 64}"


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled tool. `attack` and `signal` are empty for honest ones, `kind` for attacks."""

    id: str
    name: str
    description: str
    input_schema: Any
    server: str
    source: str
    licence: str
    attack: str
    signal: str
    kind: str

    @property
    def may_train(self) -> bool:
        """Whether its licence allows that something which is given away is trained on it."""
        return _LICENCES.fullmatch(self.licence) is not None

    def registration(self) -> Registration:
        """As a node would send it; without the digest, which no check of text looks at."""
        return registration(self.name, self.description, self.input_schema, self.server)


def registration(name: str, description: str, schema: Any = None, server: str = "") -> Registration:
    """A registration of a tool with these texts."""
    raw = msgspec.Raw(msgspec.json.encode({} if schema is None else schema))
    tool = Tool(name=name, description=description, input_schema=raw, version="1.0.0")
    return Registration(node="publisher", tool=tool, digest=_NO_DIGEST, server=server)


def load(folder: Path) -> list[Row]:
    """All labelled tools of a folder.

    Raises:
        ValueError: no file in the folder has any.
    """
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in _rows(path)]
    if not rows:
        raise ValueError(f"no labelled tools in {folder}: JSON lines with `attack` or `kind` are looked for")
    return rows


def _rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            row = msgspec.json.decode(line)
            if not isinstance(row, dict) or not ("attack" in row or "kind" in row) or "name" not in row:
                return
            yield Row(
                id=str(row.get("id") or f"{path.stem}-{number}"),
                name=row["name"],
                description=row.get("description") or "",
                input_schema=row.get("input_schema"),
                server=row.get("server") or "",
                source=row.get("source") or path.stem,
                licence=row.get("license") or "",
                attack=row.get("attack") or "",
                signal=row.get("signal") or "",
                kind=row.get("kind") or "",
            )
