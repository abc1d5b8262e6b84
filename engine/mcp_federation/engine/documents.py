"""What of a tool is indexed, and how a tool becomes a spec. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcp_federation.engine.categories import classify
from mcp_federation.engine.priors import prior_figures
from mcp_federation.engine.text import name_words
from mcp_federation.engine.types import MCPToolSpec

MAX_PARAMETERS = 100
"""Parameters of one tool that are indexed."""

_MAX_DEPTH = 4
_OPERATION_PARAMETERS = ("operation", "action", "command", "mode", "method")


def base_name(local_name: str) -> str:
    """The name without the `@node` that a partner's own listing may give it."""
    return local_name.rpartition("@")[0] or local_name


def what_tool(spec: MCPToolSpec) -> tuple[str, str, str]:
    """What makes tools of several nodes one: their plain local name, description and server."""
    metadata = spec.metadata
    local_name = base_name(str(metadata.get("local_name", spec.name)))
    return local_name, spec.description, str(metadata.get("server") or "")


def parameters(schema: object) -> Iterator[tuple[str, str]]:
    """`(name, description)` of a JSON Schema's properties, nested ones too, at most `MAX_PARAMETERS`.

    Whatever does not look like a schema is passed over.
    """
    left = MAX_PARAMETERS
    queue: list[tuple[object, int]] = [(schema, 0)]
    while queue and left:
        node, depth = queue.pop(0)
        if not isinstance(node, Mapping) or depth > _MAX_DEPTH:
            continue
        properties = node.get("properties")
        items = list(properties.items()) if isinstance(properties, Mapping) else []
        for name, value in items[:left]:
            description = value.get("description") if isinstance(value, Mapping) else None
            yield str(name), description if isinstance(description, str) else ""
            left -= 1
            queue.append((value, depth + 1))
        queue.append((node.get("items"), depth + 1))


def required_parameters(schema: object) -> list[str]:
    """The names that a JSON Schema requires at its top."""
    required = schema.get("required") if isinstance(schema, Mapping) else None
    if not isinstance(required, Sequence) or isinstance(required, str):
        return []
    return [name for name in required[:MAX_PARAMETERS] if isinstance(name, str)]


@dataclass(frozen=True, slots=True)
class ToolDocument:
    """What of a tool is searched, names split into words; `parameters` are names with descriptions."""

    name: str
    description: str
    parameters: str = ""
    server: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(filter(str.strip, (self.name, self.server, self.description, self.parameters)))


def tool_document(spec: MCPToolSpec) -> ToolDocument:
    """The document of a tool; its title and capabilities stand in the description."""
    metadata = spec.metadata
    described = [
        str(metadata.get("title") or ""),
        spec.description,
        " ".join(name_words(capability) for capability in spec.capabilities),
    ]
    server = [name_words(str(metadata.get("server") or "")), str(metadata.get("server_description") or "")]
    return ToolDocument(
        name=name_words(base_name(str(metadata.get("local_name", spec.name)))),
        description="\n".join(filter(str.strip, described)),
        parameters="\n".join(
            f"{name_words(name)} {text}" for name, text in parameters(metadata.get("input_schema"))
        ),
        server="\n".join(filter(str.strip, server)),
    )


def operations(schema: object) -> list[str]:
    """What a tool can do by its own schema: the values that its `operation` parameter may take."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if isinstance(properties, Mapping):
        for name in _OPERATION_PARAMETERS:
            parameter = properties.get(name)
            values = parameter.get("enum") if isinstance(parameter, Mapping) else None
            if isinstance(values, list):
                return [value for value in values[:MAX_PARAMETERS] if isinstance(value, str)]
    return []


def tool_spec(
    local_name: str,
    node: str,
    *,
    description: str = "",
    title: str | None = None,
    version: str = "0.0.0",
    server: str = "",
    input_schema: Mapping[str, Any] | None = None,
    executable: bool = True,
    available: bool = True,
    source: str = "",
) -> MCPToolSpec:
    """The spec of a real tool, named `local_name@node`, with the figures of its prior if it has one."""
    figures = prior_figures(base_name(local_name))
    federated = f"{local_name}@{node}"
    return MCPToolSpec(
        name=federated,
        description=description,
        capabilities=operations(input_schema),
        category=classify(name_words(base_name(local_name)), f"{title or ''} {description}"),
        usage_frequency=figures.usage,
        reliability_score=figures.reliability,
        cost_efficiency=figures.cost_efficiency,
        metadata={
            "node": node,
            "local_name": local_name,
            "federated_name": federated,
            "server": server,
            "title": title,
            "version": version,
            "input_schema": dict(input_schema or {}),
            "executable": executable,
            "available": available,
            "source": source,
        },
    )


def marked(spec: MCPToolSpec, *, available: bool) -> MCPToolSpec:
    """The same tool as it is now available, or not: a copy, which costs less than to read it again."""
    return replace(spec, metadata={**spec.metadata, "available": available})
