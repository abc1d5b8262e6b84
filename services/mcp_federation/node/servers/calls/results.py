"""Reads what MCP servers answer to `tools/call`, without building models of it."""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from mcp_federation.contract.text import check_utf8
from mcp_federation.errors import PayloadTooLarge, ToolFailed
from mcp_federation.node.servers.calls.calling import Outcome
from mcp_federation.node.servers.calls.declared import Declared, UnusableSchema
from mcp_federation.node.servers.calls.wire import MaybeRaw


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
    """Holds the results of one server to MCP, to what its tools declare, and to a bound in bytes."""

    def __init__(self, declared: Declared, max_payload: int) -> None:
        self._declared = declared
        self.max_payload = max_payload

    def read(self, tool: str, result: bytes | Raw) -> Outcome:
        """The outcome that a result stands for.

        Raises:
            ToolFailed: the tool asks for input, which no caller of the federation can give.
            PayloadTooLarge: it is over the bound.
            BrokenContract: it is no result, or not one that the tool declares.
        """
        if len(memoryview(result)) > self.max_payload:
            raise self.too_large()
        try:
            check_utf8(result)
            shape = _decode_result(result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if _asks_for_input(result):
                raise ToolFailed("the tool asks for more input, which callers here cannot give") from None
            raise BrokenContract(f"not a CallToolResult: {error}") from error
        if not shape.is_error and self._declared.has_output_schema(tool):
            self._check(tool, shape.structured_content)
        is_error = shape.is_error
        del shape  # before the result is copied: it may be large
        return Outcome(bytes(result), is_error)

    def bounded(self, result: bytes, is_error: bool = False) -> Outcome:
        """The outcome that a result stands for which is known to be what the tool declares.

        Raises:
            PayloadTooLarge: it is over the bound.
        """
        if len(result) > self.max_payload:
            raise self.too_large()
        return Outcome(result, is_error)

    def expects(self, tool: str, schema: Any) -> bool:
        """Whether this is the output schema that the tool declared, None for none."""
        return bool(self._declared.output_schema(tool) == schema)

    def too_large(self) -> PayloadTooLarge:
        """The error of a result that is over the bound."""
        limit = self.max_payload
        return PayloadTooLarge(f"the result of the tool is over {limit} bytes", {"limit": limit})

    def _check(self, tool: str, structured: MaybeRaw) -> None:
        if structured is UNSET:
            raise BrokenContract("the tool declares an output schema and gave no structured content")
        try:
            fits = self._declared.fits(tool, msgspec.json.decode(structured))
        except (msgspec.DecodeError, RecursionError) as error:
            raise BrokenContract(f"the structured content cannot be read: {error}") from error
        except UnusableSchema as error:
            raise BrokenContract(f"the tool's output schema cannot be used: {error}") from error
        if not fits:
            raise BrokenContract("the structured content does not fit the tool's output schema")


def _asks_for_input(result: bytes | Raw) -> bool:
    try:
        return _decode_kind(result).result_type == "input_required"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
