"""What a tool's new text changes of what was approved before: the difference, for people. Pure."""

from typing import Any, Final

import msgspec

from mcp_federation.contract.messages import Change, Tool
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Path, render_path

MAX_CHANGES: Final = 40
MAX_EXCERPT: Final = 300
_CONTEXT: Final = 40
_ABSENT: Final = object()


def changes(before: Tool, after: Tool) -> tuple[Change, ...]:
    """Every place that differs, with what stood and what stands there; at most `MAX_CHANGES`."""
    old, new = _leaves(before), _leaves(after)
    found = []
    for path in dict.fromkeys((*old, *new)):
        was, now = old.get(path, _ABSENT), new.get(path, _ABSENT)
        if was != now or type(was) is not type(now):
            found.append(_change(render_path(path), was, now))
    return tuple(found[:MAX_CHANGES])


def _leaves(tool: Tool) -> dict[Path, Any]:
    """Every value of the tool that is not a container, by where it stands."""
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(tool))
    leaves: dict[Path, Any] = {}
    # A stack of its own, not recursion: how deep a schema goes is up to a stranger.
    stack: list[tuple[Path, Any]] = [((key,), value) for key, value in reversed(fields.items())]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict) and value:
            stack += [((*path, key), item) for key, item in reversed(value.items())]
        elif isinstance(value, list) and value:
            stack += [((*path, index), item) for index, item in reversed(list(enumerate(value)))]
        else:
            leaves[path] = value
    return leaves


def _change(where: str, was: Any, now: Any) -> Change:
    if isinstance(was, str) and isinstance(now, str):
        return Change(where=where, before=_excerpt(was, now), after=_excerpt(now, was))
    return Change(where=where, before=_shown(was), after=_shown(now))


def _shown(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return quote(text, MAX_EXCERPT)


def _excerpt(text: str, other: str) -> str:
    """The part of a text that differs from the other one, with a little of what is around it."""
    start = next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
    if start is None:
        start = min(len(text), len(other))
    tails = zip(reversed(text[start:]), reversed(other[start:]), strict=False)
    same = next((at for at, (a, b) in enumerate(tails) if a != b), None)
    if same is None:
        same = min(len(text), len(other)) - start
    first, last = max(0, start - _CONTEXT), min(len(text), len(text) - same + _CONTEXT)
    part = quote(text[first:last], MAX_EXCERPT)
    return f"{'…' if first else ''}{part}{'…' if last < len(text) else ''}"
