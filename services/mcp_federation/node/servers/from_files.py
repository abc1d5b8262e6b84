"""Values of a configuration that stand in files, such as a login that expires and is written anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mcp_federation.node.servers.faults import Ended

MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class FromFiles:
    """A text of which some parts are what a file holds, without white space around it."""

    parts: tuple[str | Path, ...]

    def read(self) -> str:
        """The text as it is now.

        Raises:
            Ended: a file cannot be read.
        """
        return "".join(part if isinstance(part, str) else _read(part) for part in self.parts)


Value = str | FromFiles


def read_values(values: Mapping[str, Value]) -> dict[str, str]:
    """The values as they are now.

    Raises:
        Ended: a file cannot be read.
    """
    return {name: value if isinstance(value, str) else value.read() for name, value in values.items()}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode().strip()
    except (OSError, ValueError) as error:
        why = (error.strerror or "it fails") if isinstance(error, OSError) else "it is no text"
        raise Ended(f"the file {path.name!r} of its configuration cannot be read: {why}") from None
