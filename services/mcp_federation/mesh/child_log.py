"""The log files of child processes: bounded at each start, and asked for why a child ended."""

import json
import re
from pathlib import Path
from typing import IO, Final

MAX_LOG_BYTES: Final = 10 * 1024 * 1024
TAIL_BYTES: Final = 64 * 1024
MAX_REASON: Final = 300

_NATS_LINE = re.compile(r"^\[\d+\] \S+ \S+ \[(\w+)\] (.*)$")
_OWN_LINE = "mcp-federation: "


def open_log(path: Path, max_bytes: int = MAX_LOG_BYTES) -> IO[bytes]:
    """The log opened for appending; one over `max_bytes` first becomes `<name>.log.1`, the only one kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > max_bytes:
        path.replace(path.with_name(f"{path.name}.1"))
    file = path.open("ab")
    file.seek(0, 2)
    return file


def last_error(path: Path, offset: int = 0) -> str:
    """The last error in a log from `offset` on, else its last line; empty where there is none."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(offset, end - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    spoken = [line.strip() for line in reversed(lines) if line.strip()]
    errors = filter(None, map(_error_in, spoken))
    return next(errors, next(iter(map(_text_of, spoken)), ""))[:MAX_REASON]


def _error_in(line: str) -> str:
    """What a line says, where it is an error: ours, of our logs, or of nats-server."""
    if line.startswith(_OWN_LINE):
        return line.removeprefix(_OWN_LINE)
    if (entry := _json_entry(line)) is not None:
        return _text_of(line) if entry.get("level") == "ERROR" else ""
    if found := _NATS_LINE.match(line):
        return found[2] if found[1] in ("ERR", "FTL") else ""
    return line.removeprefix("nats-server: ") if line.startswith("nats-server: ") else ""


def _text_of(line: str) -> str:
    entry = _json_entry(line)
    if entry is None:
        return line
    metadata = entry.get("metadata")
    reason = metadata.get("reason") if isinstance(metadata, dict) else None
    return ": ".join(str(part) for part in (entry.get("message"), reason) if part)


def _json_entry(line: str) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
