"""Registrations as a node would send them."""

import json
from typing import Any

import msgspec

from mcp_federation.contract.digest import tool_digest
from mcp_federation.contract.messages import Finding, Registration, Tool
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.checks.reading import read
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import SECURITY

CLEAN = "Fetches the weather of a city for the next five days, hour by hour."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of the city, such as Lyon"}},
    "required": ["city"],
}


def a_tool(
    name: str = "weather.forecast",
    description: str = CLEAN,
    schema: Any = SCHEMA,
    output: Any = None,
    annotations: Any = None,
    **fields: Any,
) -> Tool:
    """A tool with nothing to find, but for what is given; bytes stand for JSON text as it is."""
    return Tool(
        name=name,
        description=description,
        input_schema=raw(schema),
        output_schema=None if output is None else raw(output),
        annotations=None if annotations is None else raw(annotations),
        **fields,
    )


def a_registration(
    tool: Tool | None = None, *, node: str = "acme", digest: str | None = None, **fields: Any
) -> Registration:
    tool = tool or a_tool()
    return Registration(node=node, tool=tool, digest=digest or tool_digest(tool), **fields)


def unjudgeable(tool: Tool, **fields: Any) -> Registration:
    """A registration of a tool that may have no digest."""
    return Registration(node="acme", tool=tool, digest=f"sha256:{'0' * 64}", **fields)


def quality_findings(registration: Registration, catalog: CatalogView | None = None) -> list[Finding]:
    return QUALITY.run(read(registration, catalog))


def security_findings(registration: Registration, catalog: CatalogView | None = None) -> list[Finding]:
    return SECURITY.run(read(registration, catalog))


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(value if isinstance(value, bytes) else json.dumps(value).encode())


def rules(findings: list[Finding] | tuple[Finding, ...]) -> set[str]:
    return {finding.rule for finding in findings}
