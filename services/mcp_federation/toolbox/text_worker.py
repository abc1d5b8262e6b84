"""Text work whose cost the input decides, run as a program of its own that can be ended.

Reads one JSON request from standard input and writes one JSON answer: `{"result": …}` or `{"error": …}`.
`re` holds the interpreter's lock while it backtracks, so only another process can be stopped in time.
Imports the standard library alone, for it is run as a bare file.
"""

import contextlib
import difflib
import json
import re
import resource
import sys
from collections.abc import Iterator
from typing import Any

MAX_OUTPUT = 2_000_000  # characters
_MEMORY = 1024 * 1024 * 1024

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|"
    r"Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
# Each begins where the last such run cannot have begun, so that all are linear in the text.
EXTRACTS = {
    "emails": r"(?<![\w.+%-])[\w.+%-]{1,64}+@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}\b",
    "urls": r"\b(?:https?|ftp)://[^\s<>\"'`{}|\\^]*[^\s<>\"'`{}|\\^.,;:!?)\]]",
    "numbers": r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)",
    "dates": (
        r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?(?!\w)"
        r"|\b\d{1,2}/\d{1,2}/\d{4}\b|\b\d{1,2}\.\d{1,2}\.\d{4}\b"
        rf"|\b\d{{1,2}} {_MONTH} \d{{4}}\b|\b{_MONTH} \d{{1,2}}, \d{{4}}\b"
    ),
}


class WorkError(Exception):
    """A request that cannot be done, in words for its caller."""


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Do one request; `operation` is search, replace, extract or diff."""
    match request["operation"]:
        case "search":
            return _search(request)
        case "replace":
            return _replace(request)
        case "extract":
            return _extract(request)
        case _:
            return _diff(request)


def _pattern(request: dict[str, Any]) -> re.Pattern[str]:
    source = request["pattern"] if request["regex"] else re.escape(request["pattern"])
    try:
        return re.compile(source, re.IGNORECASE if request["ignore_case"] else 0)
    except (re.error, RecursionError, OverflowError) as error:
        raise WorkError(f"The pattern is not a regular expression: {error}") from error


def _search(request: dict[str, Any]) -> dict[str, Any]:
    text, left = request["text"], MAX_OUTPUT
    matches: list[dict[str, Any]] = []
    line, line_start, seen = 1, 0, 0
    for match in _pattern(request).finditer(text):
        groups = list(match.groups())
        left -= len(match[0]) + sum(len(group or "") for group in groups)
        if len(matches) == request["limit"] or left < 0:
            return {"matches": matches, "truncated": True}
        line += text.count("\n", seen, match.start())
        line_start = text.rfind("\n", line_start, match.start()) + 1 or line_start
        seen = match.start()
        found = {"text": match[0], "start": match.start(), "end": match.end()}
        matches.append(found | {"line": line, "column": match.start() - line_start + 1, "groups": groups})
    return {"matches": matches, "truncated": False}


def _replace(request: dict[str, Any]) -> dict[str, Any]:
    text, replacement = request["text"], request["replacement"]
    pieces: list[str] = []
    done = size = count = 0
    for match in _pattern(request).finditer(text):
        try:
            new = match.expand(replacement) if request["regex"] else replacement
        except (re.error, IndexError) as error:
            raise WorkError(f"The replacement is not valid: {error}") from error
        pieces += [text[done : match.start()], new]
        size += len(pieces[-1]) + len(pieces[-2])
        if size > MAX_OUTPUT:
            raise WorkError(f"The result is longer than {MAX_OUTPUT} characters")
        done, count = match.end(), count + 1
    return {"text": "".join([*pieces, text[done:]]), "count": count}


def _extract(request: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, None] = {}  # each once, in the order of the text
    for match in re.finditer(EXTRACTS[request["kind"]], request["text"]):
        if match[0] not in found and len(found) == request["limit"]:
            return {"items": list(found), "truncated": True}
        found[match[0]] = None
    return {"items": list(found), "truncated": False}


def _diff(request: dict[str, Any]) -> dict[str, Any]:
    def bounded(pieces: Iterator[str]) -> Iterator[str]:
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > MAX_OUTPUT:
                raise WorkError(f"The difference is longer than {MAX_OUTPUT} characters")
            yield piece

    before, after = request["text"].splitlines(), request["other_text"].splitlines()
    difference = list(bounded(difflib.unified_diff(before, after, "text", "other_text", lineterm="")))
    body = difference[2:]
    return {
        "text": "\n".join(difference),
        "added": sum(piece.startswith("+") for piece in body),
        "removed": sum(piece.startswith("-") for piece in body),
        "identical": request["text"] == request["other_text"],
    }


def main() -> None:
    """Answer the request on standard input, within the seconds of processor time given as the argument."""
    seconds = int(sys.argv[1])
    for limit, value in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, _MEMORY)):
        with contextlib.suppress(ValueError, OSError):  # not every system has each limit; the parent's holds
            resource.setrlimit(limit, (value, value))
    answer: dict[str, Any]
    try:
        answer = {"result": work(json.load(sys.stdin))}
    except WorkError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
