"""What commands print for other programs: text, JSON, or a row a line."""

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from mcp_federation.mesh.terminal import safe_text


def print_text(text: str) -> None:
    """Print a text as it is."""
    print(text)  # noqa: T201 - the command's output


def print_json(value: Any) -> None:
    """Print a value as JSON, for people as well."""
    print_text(json.dumps(value, indent=2, ensure_ascii=False))


def add_names(table: Table, console: Console, names: Iterable[str]) -> None:
    """Add the column of a table that holds those names of tools: whole, where two fifths of the line do."""
    longest = max(map(len, names), default=0)
    width = min(max(longest, len("tool")), console.width * 2 // 5)
    table.add_column("tool", overflow="fold", style="cyan", width=width)


def print_row(*fields: str) -> None:
    """Print fields with tabs between them; no text of a stranger's can add a field, or another row."""
    print_text("\t".join(safe_text(" ".join(field.split())) for field in fields))
