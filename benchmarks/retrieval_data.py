"""Retrieval sets: tools, and requests with the tools that serve them, from a folder of JSON lines.

`retrieval_<set>_tools.jsonl`: `tool_id, name, server, description`, often `input_schema`,
`server_description`, `category`. `retrieval_<set>_queries.jsonl`: `query`, `relevant` (tool ids), sometimes
`relevant_groups` (each group's tools are interchangeable, and one of each group is wanted). A set without
tools of its own has those of the set whose name is the longest beginning of its own (`metatool_multi`: those
of `metatool`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_federation.engine.documents import tool_spec
from mcp_federation.engine.types import MCPToolSpec

_QUERIES = re.compile(r"retrieval_(\w+)_queries\.jsonl")
_PARAMETER = re.compile(r'"name":\s*"([^"]+)"[^{}]*?"description":\s*"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `groups` is what is wanted, `relevant` all that serves."""

    text: str
    relevant: frozenset[str]
    groups: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """A named set: rows of tools, and requests for them."""

    name: str
    tools: tuple[Mapping[str, Any], ...]
    requests: tuple[Request, ...]

    def specs(self) -> list[MCPToolSpec]:
        """The tools as the engine's specs, each by a name of its own."""
        return [_spec(row, place) for place, row in enumerate(self.tools)]

    def ids(self) -> dict[str, str]:
        """The tool id by the spec's name."""
        return {spec.name: str(row["tool_id"]) for spec, row in zip(self.specs(), self.tools, strict=True)}


def load_sets(folder: Path, only: Sequence[str] = (), sample: int = 0) -> list[RetrievalSet]:
    """The folder's sets by name; of each at most `sample` requests, evenly taken, where it is not 0.

    Raises:
        FileNotFoundError: the folder holds none, or one of `only` is missing.
    """
    found = {
        match[1]: path for path in sorted(folder.glob("*.jsonl")) if (match := _QUERIES.fullmatch(path.name))
    }
    missing = set(only) - found.keys()
    if not found or missing:
        raise FileNotFoundError(f"{folder} holds no set {', '.join(sorted(missing))}".rstrip())
    return [_load(folder, name, found[name], sample) for name in (only or sorted(found))]


def many(folder: Path, count: int, requests: int) -> tuple[list[MCPToolSpec], list[str]]:
    """As many different tools, of all sets and then, told apart by a number, of all sets again; requests
    evenly taken from all sets.
    """
    sets = load_sets(folder)
    rows = {id(row): row for data in sets for row in data.tools}
    distinct = list(
        {(row["name"], row.get("description"), row.get("server")): row for row in rows.values()}.values()
    )
    specs = []
    for place in range(count):
        again, which = divmod(place, len(distinct))
        row = distinct[which]
        mark = f" {again}" if again else ""
        specs.append(_spec({**row, "server": f"{row.get('server') or ''}{mark}"}, place))
    texts = [request.text for data in sets for request in data.requests]
    return specs, [texts[place * len(texts) // requests] for place in range(requests)]


def _load(folder: Path, name: str, queries: Path, sample: int) -> RetrievalSet:
    requests = [_request(row) for row in _rows(queries)]
    if 0 < sample < len(requests):
        requests = [requests[place * len(requests) // sample] for place in range(sample)]
    return RetrievalSet(name, tuple(_rows(_tools_file(folder, name))), tuple(requests))


def _tools_file(folder: Path, name: str) -> Path:
    parts = name.split("_")
    for length in range(len(parts), 0, -1):
        path = folder / f"retrieval_{'_'.join(parts[:length])}_tools.jsonl"
        if path.exists():
            return path
    raise FileNotFoundError(f"{folder} holds no tools of the set {name}")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _request(row: Mapping[str, Any]) -> Request:
    relevant = frozenset(map(str, row["relevant"]))
    groups = row.get("relevant_groups") or [[tool] for tool in sorted(relevant)]
    return Request(str(row["query"]), relevant, tuple(frozenset(map(str, group)) for group in groups))


def _spec(row: Mapping[str, Any], place: int) -> MCPToolSpec:
    schema = row.get("input_schema")
    if not isinstance(schema, Mapping):
        # ToolLens gives its parameters as text.
        named = _PARAMETER.findall(str(row.get("params_text", "")).partition("return_schema")[0])
        schema = {"properties": {name: {"description": text} for name, text in named}}
    return tool_spec(
        str(row["name"]),
        f"node{place}",
        description=str(row.get("description") or ""),
        title=row.get("title"),
        server=str(row.get("server") or ""),
        input_schema=schema,
    )
