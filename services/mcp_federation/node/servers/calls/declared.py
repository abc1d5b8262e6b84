"""What the tools of a server declare, as far as their calls heed it."""

from collections.abc import Callable, Iterable
from typing import Any

import jsonschema_rs
import mcp_types
from mcp.shared.inbound import mcp_param_headers, x_mcp_header_map


class UnusableSchema(Exception):
    """A tool's output schema is none."""


class Declared:
    """Output schemas, arguments that go into HTTP headers, and whether a tool may run twice."""

    def __init__(self) -> None:
        self._schemas: dict[str, Any] = {}
        self._validators: dict[str, Callable[[Any], bool]] = {}
        self._headers: dict[str, dict[tuple[str, ...], str]] = {}
        self._repeatable: frozenset[str] = frozenset()

    def take(self, tools: Iterable[mcp_types.Tool]) -> None:
        """Take in the tools as the server lists them now."""
        tools = list(tools)
        schemas = {tool.name: tool.output_schema for tool in tools if tool.output_schema is not None}
        if schemas != self._schemas:
            self._schemas, self._validators = schemas, {}
        maps = {tool.name: x_mcp_header_map(tool.input_schema) for tool in tools}
        self._headers = {name: found for name, found in maps.items() if found}
        self._repeatable = frozenset(tool.name for tool in tools if _may_repeat(tool))

    def may_repeat(self, tool: str) -> bool:
        """Whether the tool declares that running it twice does no harm."""
        return tool in self._repeatable

    def output_schema(self, tool: str) -> Any:
        """The schema that the tool's structured content has to fit; None for none."""
        return self._schemas.get(tool)

    def has_output_schema(self, tool: str) -> bool:
        """Whether the tool's structured content has to fit a schema."""
        return tool in self._schemas

    def fits(self, tool: str, structured: Any) -> bool:
        """Whether the structured content fits the tool's output schema, which is compiled once.

        Raises:
            UnusableSchema: nothing can fit it.
        """
        validator = self._validators.get(tool)
        if validator is None:
            try:
                # Offline: a schema may not make the node fetch anything.
                compiled = jsonschema_rs.validator_for(self._schemas[tool], offline=True)
            except (ValueError, jsonschema_rs.ReferencingError) as error:
                raise UnusableSchema(str(error)) from error
            validator = self._validators[tool] = compiled.is_valid
        return validator(structured)

    def headers(self, tool: str, arguments: dict[str, Any]) -> dict[str, str]:
        """The HTTP headers that repeat arguments, as the tool's input schema asks for."""
        header_map = self._headers.get(tool)
        return mcp_param_headers(header_map, arguments) if header_map else {}


def _may_repeat(tool: mcp_types.Tool) -> bool:
    hints = tool.annotations
    return hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)
