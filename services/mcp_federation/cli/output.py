"""What commands print for other programs: text, JSON, or a row a line."""

import json
from typing import Any

from mcp_federation.mesh.terminal import safe_text


def print_text(text: str) -> None:
    """Print a text as it is."""
    print(text)  # noqa: T201 - the command's output


def print_json(value: Any) -> None:
    """Print a value as JSON, for people as well."""
    print_text(json.dumps(value, indent=2, ensure_ascii=False))


def print_row(*fields: str) -> None:
    """Print fields with tabs between them; no text of a stranger's can add a field, or another row."""
    print_text("\t".join(safe_text(" ".join(field.split())) for field in fields))
