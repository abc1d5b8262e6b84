"""The bodies of the REST API. Its `mcp_name` is a local name, or `local@node`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from mcp_federation.contract.messages import (
    Count,
    Finding,
    LocalName,
    NodeName,
    RefusedTool,
    ServerState,
    Text,
    Version,
)
from mcp_federation.estimation import MAX_COST

MAX_RECORDS = 1000
"""The most performance records in one upload."""

McpName = Annotated[
    str, Meta(min_length=1, max_length=320, description="a local name, or a federated one: local@node")
]
JsonObject = Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


class ToolSummary(Struct, frozen=True, kw_only=True):
    """A tool of the mesh.

    `name` is what `mcp_name` takes here: the local name for the tools of this edge's own node, the
    federated name for all others. A tool that is not `available` belongs to a node that fell silent;
    one that is not `executable` is described only.
    """

    name: str
    description: str
    version: str
    title: str | None
    node: NodeName
    local_name: LocalName
    federated_name: str
    digest: str
    available: bool
    executable: bool
    server: str
    input_schema: JsonObject
    output_schema: JsonObject | None
    annotations: JsonObject | None
    source_repo: str | UnsetType = UNSET


class ExecuteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call. `args` are mapped by the order of the input schema's properties; `timeout` is in seconds.

    Nothing else may stand beside them: who writes `arguments` would execute the tool without any.
    """

    mcp_name: McpName
    args: list[Raw] = field(default_factory=list)
    kwargs: dict[str, Raw] = field(default_factory=dict)
    timeout: Annotated[float, Meta(gt=0)] | None = None


class ExecuteResponse(Struct, frozen=True, kw_only=True):
    """What the tool returned, and which tool of which node it was."""

    result: Any
    node: NodeName
    tool: LocalName


class UploadedRecord(Struct, frozen=True, kw_only=True):
    """One execution outcome. Latency in milliseconds, cost in the uploader's currency."""

    mcp_name: McpName
    success: bool
    latency_ms: Annotated[float, Meta(ge=0, le=1e9)]
    cost: Annotated[float, Meta(ge=0, le=MAX_COST)] | None = None
    error_kind: Annotated[str, Meta(max_length=64)] | None = None


class KnownRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One anonymised execution outcome: numbers to three digits, no time, no caller.

    With a `count`, `success_rate` of so many succeeded, with their typical latency and mean cost.
    """

    mcp_name: str
    success: bool
    latency_ms: float
    cost: float
    error_kind: str | None
    node: NodeName
    tool: LocalName
    count: int = 1
    success_rate: float | None = None


Upload = Annotated[list[UploadedRecord], Meta(max_length=MAX_RECORDS)]


class ServerAddress(Struct, frozen=True, kw_only=True):
    """An MCP server that speaks streamable HTTP."""

    url: Annotated[str, Meta(pattern="^https?://", max_length=2048)]


class RegisterRequest(Struct, frozen=True, kw_only=True):
    """A new tool. With `server` its tools become executable; without, it is described only.

    The schema may be called as in MCP, `inputSchema`, too; of both, `input_schema` counts.
    """

    name: LocalName
    description: Text
    version: Version = "0.0.0"
    source_repo: Text | None = None
    input_schema: dict[str, Raw] | None = None
    mcp_input_schema: dict[str, Raw] | None = field(default=None, name="inputSchema")
    server: ServerAddress | None = None


class RegisterResponse(Struct, frozen=True, kw_only=True):
    """What became of a registration: the local names now published, those that wait for a person, and why."""

    status: Literal["registered", "quarantined"]
    name: str
    published: tuple[str, ...]
    quarantined: tuple[str, ...]
    findings: tuple[Finding, ...]


class Health(Struct, frozen=True, kw_only=True):
    """The process lives."""

    status: Literal["ok"]


class NodeServer(ServerState, frozen=True, kw_only=True, omit_defaults=False):
    """An MCP server of one running instance of a node."""

    instance: str


class NodeHealth(Struct, frozen=True, kw_only=True):
    """A node as this edge sees it. `unverified` says why entries of its are not believed here."""

    name: NodeName
    home: bool
    available: bool
    tools: Count
    in_flight: Count
    servers: tuple[NodeServer, ...]
    refused: tuple[RefusedTool, ...]
    unverified: dict[str, str]


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether the edge can serve; without a valid token only the status."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, bool] | UnsetType = UNSET
    nodes: list[NodeHealth] | UnsetType = UNSET


execute_decoder = msgspec.json.Decoder(ExecuteRequest)
upload_decoder: msgspec.json.Decoder[list[UploadedRecord]] = msgspec.json.Decoder(Upload)
register_decoder = msgspec.json.Decoder(RegisterRequest)
