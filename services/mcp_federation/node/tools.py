"""From what an MCP server lists to what the federation publishes. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mcp_types
import msgspec
import semver

from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.messages import Tool
from mcp_federation.contract.names import check_local_name
from mcp_federation.contract.names import local_name as join_names
from mcp_federation.errors import InvalidRequest
from mcp_federation.node.arguments import argument_check

MAX_VERSION = 64

_NUMBERS = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(.*)")


@dataclass(frozen=True)
class LocalTool:
    """A tool as the node publishes it: under `tool.name`; its server knows it as `remote_name`."""

    tool: Tool
    digest: str
    server: str
    remote_name: str
    executable: bool = True
    source_repo: str | None = None
    server_url: str | None = None

    @cached_property
    def check_arguments(self) -> Callable[[Any], None]:
        """See `argument_check`; compiled once, and gone with the tool."""
        return argument_check(self.tool)


def to_local_tools(
    server: str, listed: list[mcp_types.Tool], *, version: str, only_tool_is_server: bool
) -> tuple[list[LocalTool], dict[str, str]]:
    """What a server's tools are called here, and the tools that cannot be published, with the reason.

    `only_tool_is_server`: the tool of a one-tool Python toolbox goes by its own name.
    """
    tools: dict[str, LocalTool] = {}
    unfit: dict[str, str] = {}
    for item in listed:
        bare = only_tool_is_server and len(listed) == 1
        name = item.name if bare else join_names(server, item.name)
        if name in tools:
            unfit[name] = "the server lists two tools of that name"
            continue
        try:
            tool = canonical_tool(_to_tool(check_local_name(name), item, to_semver(version)))
            tools[name] = LocalTool(tool, tool_digest(tool), server, item.name)
        except InvalidRequest as error:
            unfit[name] = error.message
    return list(tools.values()), unfit


def _to_tool(name: str, item: mcp_types.Tool, version: str) -> Tool:
    if item.execution is not None and item.execution.task_support == "required":
        raise InvalidRequest("the tool runs as a task only, which a call through the mesh is not")
    annotations = item.annotations.model_dump(by_alias=True, exclude_none=True) if item.annotations else None
    properties = item.input_schema.get("properties")
    return Tool(
        name=name,
        title=item.title,
        description=item.description or "",
        version=version,
        input_schema=_raw(item.input_schema),
        output_schema=_raw(item.output_schema) if item.output_schema is not None else None,
        annotations=_raw(annotations) if annotations else None,
        parameters=tuple(properties) if isinstance(properties, dict) else (),
    )


def _raw(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("a schema of the tool is not valid JSON") from error


def to_semver(version: str) -> str:
    """The version a server reports, as a semantic one where that can be told, else `0.0.0`.

    MCP leaves the form of `serverInfo.version` open: `1.2` and `v1` are common, PEP 440 is too.
    """
    version = version[:MAX_VERSION]
    if semver.Version.is_valid(version):
        return version
    match = _NUMBERS.fullmatch(version.strip())
    if match is None:
        return "0.0.0"
    major, minor, patch, rest = match.groups()
    base = f"{int(major)}.{int(minor or 0)}.{int(patch or 0)}"
    suffix = re.sub(r"[^0-9A-Za-z]+", "-", rest).strip("-")
    candidate = f"{base}-{suffix}" if suffix else base
    return candidate if semver.Version.is_valid(candidate) else base
