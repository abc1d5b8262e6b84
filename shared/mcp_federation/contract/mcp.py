"""MCP's own `tools/call` params and result, and a tool's hints, as far as the federation reads them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from mcp_federation.contract.messages import Tool
from mcp_federation.errors import InvalidRequest


class CallParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The params of `tools/call`; on the bus `name` is the tool's local name and may be left out."""

    name: str = ""
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class CallResult(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """MCP's `CallToolResult`."""

    content: list[dict[str, Any]] = msgspec.field(default_factory=list)
    structured_content: Any = None
    is_error: bool = False

    @property
    def text(self) -> str:
        """All text of the content."""
        return "\n".join(str(block.get("text", "")) for block in self.content if block.get("type") == "text")

    @property
    def value(self) -> Any:
        """The result as a plain caller wants it: structured where there is such, else text, else blocks."""
        structured = self.structured_content
        if isinstance(structured, dict) and structured.keys() == {"result"}:
            # How the Python SDK wraps a return value that is no object.
            return structured["result"]
        if structured is not None:
            return structured
        if all(block.get("type") == "text" for block in self.content):
            return self.text
        return self.content


def hints(tool: Tool) -> Mapping[str, Any]:
    """What the tool declares of itself, as `readOnlyHint`; nothing where its annotations are no object."""
    found = msgspec.json.decode(tool.annotations) if tool.annotations is not None else {}
    return found if isinstance(found, dict) else {}


_params_decoder = msgspec.json.Decoder(CallParams)
_result_decoder = msgspec.json.Decoder(CallResult)


def decode_params(payload: bytes | Raw) -> CallParams:
    """The params in an execute request.

    Raises:
        InvalidRequest: they are no `tools/call` params.
    """
    try:
        return _params_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not the params of tools/call: {error}") from error


def decode_result(payload: bytes) -> CallResult:
    """The result in an execute reply.

    Raises:
        InvalidRequest: it is no `CallToolResult`.
    """
    try:
        return _result_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not a CallToolResult: {error}") from error
