"""Whether a call's arguments fit the tool's input schema. Pure."""

from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec

from mcp_federation.contract.messages import Tool
from mcp_federation.errors import InternalError, InvalidArguments

MAX_PROBLEMS = 5
MAX_PROBLEM_TEXT = 300


def argument_check(tool: Tool) -> Callable[[Any], None]:
    """What raises `InvalidArguments` where arguments do not fit; its details have the first problems.

    Raises:
        InternalError: the schema cannot be used.
    """
    try:
        # Offline: a schema may not make the node fetch anything.
        schema = jsonschema_rs.validator_for(msgspec.json.decode(tool.input_schema), offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise InternalError("the tool's input schema cannot be used") from error

    def check(arguments: Any) -> None:
        problems = []
        for error in schema.iter_errors(arguments):
            where = "/" + "/".join(str(step) for step in error.instance_path)
            problems.append({"where": where, "problem": error.message[:MAX_PROBLEM_TEXT]})
            if len(problems) == MAX_PROBLEMS:
                break
        if problems:
            first = problems[0]
            raise InvalidArguments(
                f"the arguments do not fit {tool.name!r}: {first['where']}: {first['problem']}",
                {"problems": problems},
            )

    return check
