"""Positional arguments: which property of the input schema each of them is. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mcp_federation.contract.messages import CatalogEntry
from mcp_federation.errors import InvalidArguments


class _Shape(msgspec.Struct):
    """What is read of an input schema."""

    properties: dict[str, msgspec.Raw] = {}
    required: list[str] = []


def bind(entry: CatalogEntry, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name.

    Raises:
        InvalidArguments: there are more positional ones than the tool has, or one is given twice.
    """
    if not args:
        return dict(kwargs)
    names = positional_names(entry)
    if len(args) > len(names):
        raise InvalidArguments(
            f"{entry.tool.name} takes {len(names)} positional arguments, not {len(args)}",
            {"parameters": names},
        )
    positional = dict(zip(names, args, strict=False))
    twice = [name for name in positional if name in kwargs]
    if twice:
        raise InvalidArguments(
            f"given by position and by name: {', '.join(map(repr, twice))}", {"arguments": twice}
        )
    return {**positional, **kwargs}


def positional_names(entry: CatalogEntry) -> tuple[str, ...]:
    """The input properties in the server's order; where that is not known, the required ones first."""
    if entry.parameters:
        return entry.parameters
    try:
        shape = msgspec.json.decode(entry.tool.input_schema, type=_Shape)
    except msgspec.DecodeError:
        return ()
    return tuple(dict.fromkeys([*shape.required, *shape.properties]))
