"""Whether a call's arguments fit the tool's input schema, compiled once for each tool."""

from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec

from mcp_federation.errors import InternalError, InvalidArguments
from mcp_federation.node.tools import LocalTool

MAX_PROBLEMS = 5
MAX_PROBLEM_TEXT = 300


class ArgumentChecks:
    """The compiled schemas of a node's tools, by name; one is compiled anew when its tool has changed."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[str, Callable[[Any], None]]] = {}

    def check(self, tool: LocalTool, arguments: dict[str, Any]) -> None:
        """Do nothing where the arguments fit.

        Raises:
            InvalidArguments: they do not; the details have the first problems, each with its place.
            InternalError: the schema cannot be used.
        """
        digest, check = self._checks.get(tool.tool.name, ("", None))
        if check is None or digest != tool.digest:
            check = _compiled(tool)
            self._checks[tool.tool.name] = tool.digest, check
        check(arguments)


def _compiled(tool: LocalTool) -> Callable[[Any], None]:
    schema = msgspec.json.decode(tool.tool.input_schema)
    try:
        compiled = jsonschema_rs.validator_for(schema, retriever=_fetch_nothing)
    except ValueError as error:
        raise InternalError("the tool's input schema cannot be used") from error

    def check(arguments: Any) -> None:
        problems = []
        for error in compiled.iter_errors(arguments):
            where = "/" + "/".join(str(step) for step in error.instance_path)
            problems.append({"where": where, "problem": error.message[:MAX_PROBLEM_TEXT]})
            if len(problems) == MAX_PROBLEMS:
                break
        if problems:
            first = problems[0]
            raise InvalidArguments(
                f"the arguments do not fit {tool.tool.name!r}: {first['where']}: {first['problem']}",
                {"problems": problems},
            )

    return check


def _fetch_nothing(uri: str) -> Any:
    """A schema may not make the node fetch anything."""
    raise ValueError(f"the schema refers to {uri}, which lies outside of it")
