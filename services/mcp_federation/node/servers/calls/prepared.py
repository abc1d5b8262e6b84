"""Tools of Python toolboxes, prepared once for many calls: the SDK works the same things out for each."""

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import CallToolResult, InputRequiredResult

from mcp_federation.node.servers.calls.results import BrokenContract

Converted = CallToolResult | InputRequiredResult

_MARK = uuid.uuid4().hex
_encode = msgspec.json.encode


class PreparedTool:
    """A tool that asks for no context, and returns texts.

    `dump` gives the JSON of a result as it goes on the wire.
    """

    def __init__(self, tool: Tool, dump: Callable[[Converted], bytes]) -> None:
        # Within the SDK's own `run`, so that what it makes of errors stays its own.
        self._quick = tool.model_copy(update={"fn_metadata": _Metadata(tool.fn_metadata)})
        self._around_text = dump(tool.fn_metadata.convert_result(_MARK)).split(_encode(_MARK))

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any]) -> Converted | bytes:
        """As `Tool.run`, but of a text the JSON of its result.

        Raises:
            BrokenContract: the text has half a character, which is not JSON.
        """
        result: Converted | str = await self._quick.run(arguments, context, convert_result=True)
        if not isinstance(result, str):
            return result
        try:
            return _encode(result).join(self._around_text)
        except UnicodeEncodeError as error:
            raise BrokenContract(f"the result is not JSON: {error}") from error


class _Metadata:
    """Stands in for the tool's `FuncMetadata`, and leaves to it whatever is not plain."""

    def __init__(self, metadata: FuncMetadata) -> None:
        self._metadata = metadata
        self._validate = metadata.arg_model.model_validate
        fields = metadata.arg_model.model_fields
        self._is_aliased = any(field.alias for field in fields.values())
        self._texts = frozenset(name for name, field in fields.items() if field.annotation is str)

    def validate_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The function's keyword arguments; raises what the SDK does."""
        if self._is_aliased:
            return self._metadata.validate_arguments(arguments)
        for name, value in arguments.items():
            # The SDK tries to read it as JSON.
            if isinstance(value, str) and name not in self._texts:
                return self._metadata.validate_arguments(arguments)
        return self._validate(arguments).__dict__

    async def call_fn(
        self,
        fn: Callable[..., Any],
        fn_is_async: bool,
        arguments: dict[str, Any],
        arguments_to_pass_directly: dict[str, Any],
    ) -> Any:
        """Call the function, which asks for nothing to be passed directly."""
        if fn_is_async:
            return await fn(**arguments)
        return await self._metadata.call_fn(fn, fn_is_async, arguments)

    def convert_result(self, result: Any) -> Any:
        """A text as it is, anything else as the SDK would have it."""
        return result if type(result) is str else self._metadata.convert_result(result)


def returns_texts(tool: Tool) -> bool:
    """Whether any text that the tool returns is a result of it, with nothing more to check."""
    metadata = tool.fn_metadata
    if metadata.output_schema is None:
        return True
    field = metadata.output_model.model_fields.get("result") if metadata.wrap_output else None
    return field is not None and field.annotation is str and not field.metadata
