"""Reads what MCP servers answer to `tools/call`, without building models of it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import mcp_types
import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from mcp_federation.errors import ToolFailed
from mcp_federation.node.calls.calling import Outcome

if TYPE_CHECKING:
    MaybeRaw = Raw | UnsetType
else:
    MaybeRaw = Raw  # in a union msgspec forgets Raw


class _Text(Struct, tag_field="type", tag="text"):
    text: str


class _Image(Struct, tag_field="type", tag="image", rename="camel"):
    data: str
    mime_type: str


class _Audio(Struct, tag_field="type", tag="audio", rename="camel"):
    data: str
    mime_type: str


class _Link(Struct, tag_field="type", tag="resource_link"):
    uri: str
    name: str


class _Contents(Struct):
    uri: str


class _Resource(Struct, tag_field="type", tag="resource"):
    resource: _Contents


class _Result(Struct, rename="camel"):
    content: list[_Text | _Image | _Audio | _Link | _Resource]
    is_error: bool = False
    structured_content: MaybeRaw = UNSET


class _Kind(Struct, rename="camel"):
    result_type: str = "complete"


_decode_result = msgspec.json.Decoder(_Result).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode


class BrokenContract(Exception):
    """The result is not what MCP, or the tool's own output schema, says it is."""


class Results:
    """Holds the results of one server's tools to MCP and to the output schemas that the server listed."""

    def __init__(self) -> None:
        self._schemas: dict[str, Any] = {}
        self._validators: dict[str, Callable[[Any], bool]] = {}

    def listed(self, tools: Iterable[mcp_types.Tool]) -> None:
        """Take in the tools as they are now."""
        schemas = {tool.name: tool.output_schema for tool in tools if tool.output_schema is not None}
        if schemas != self._schemas:
            self._schemas, self._validators = schemas, {}

    def read(self, tool: str, result: bytes) -> Outcome:
        """The outcome that a result stands for.

        Raises:
            ToolFailed: the tool asks for input, which no caller of the federation can give.
            BrokenContract: it is no result, or not one that the tool declares.
        """
        try:
            shape = _decode_result(result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if _asks_for_input(result):
                raise ToolFailed("the tool asks for more input, which callers here cannot give") from None
            raise BrokenContract(f"not a CallToolResult: {error}") from error
        if not shape.is_error and tool in self._schemas:
            self._check(tool, shape.structured_content)
        return Outcome(result, shape.is_error)

    def _check(self, tool: str, structured: MaybeRaw) -> None:
        if structured is UNSET:
            raise BrokenContract("the tool declares an output schema and gave no structured content")
        if not self._validator(tool)(msgspec.json.decode(structured)):
            raise BrokenContract("the structured content does not fit the tool's output schema")

    def _validator(self, tool: str) -> Callable[[Any], bool]:
        validator = self._validators.get(tool)
        if validator is None:
            try:
                compiled = jsonschema_rs.validator_for(self._schemas[tool], retriever=_fetch_nothing)
            except ValueError as error:
                raise BrokenContract(f"the tool's output schema cannot be used: {error}") from error
            validator = self._validators[tool] = compiled.is_valid
        return validator


def _asks_for_input(result: bytes) -> bool:
    try:
        return _decode_kind(result).result_type == "input_required"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _fetch_nothing(uri: str) -> Any:
    """A schema may not make the node fetch anything."""
    raise ValueError(f"the schema refers to {uri}, which lies outside of it")
