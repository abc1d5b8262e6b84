"""Positional arguments: which property of the input schema each of them is. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mcp_federation.contract.messages import Tool
from mcp_federation.errors import InvalidArguments


class _Shape(msgspec.Struct):
    """What is read of an input schema."""

    properties: dict[str, msgspec.Raw] = {}
    required: list[str] = []


def bind(tool: Tool, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name.

    Raises:
        InvalidArguments: there are more positional ones than the tool has, or one is given twice.
    """
    if not args:
        return dict(kwargs)
    names = positional_names(tool)
    if len(args) > len(names):
        raise InvalidArguments(
            f"{tool.name} takes at most {len(names)} by position, and was given {len(args)}",
            {"parameters": names},
        )
    positional = dict(zip(names, args, strict=False))
    twice = [name for name in positional if name in kwargs]
    if twice:
        raise InvalidArguments(
            f"given by position and by name: {', '.join(map(repr, twice))}", {"arguments": twice}
        )
    return {**positional, **kwargs}


def positional_names(tool: Tool) -> tuple[str, ...]:
    """The input properties in the server's order; where that is not known, the required ones first."""
    if tool.parameters:
        return tool.parameters
    try:
        shape = msgspec.json.decode(tool.input_schema, type=_Shape)
    except msgspec.DecodeError:
        return ()
    return tuple(dict.fromkeys([*shape.required, *shape.properties]))
