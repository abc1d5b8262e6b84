"""`GET /discover`: the tools of the mesh, those of the home node first."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from mcp_federation.catalog.state import CatalogTool
from mcp_federation.client import FederationClient
from mcp_federation.contract.names import NODE_NAME, check_node_name
from mcp_federation.edge.incoming import read_query
from mcp_federation.edge.naming import mcp_name
from mcp_federation.edge.operations import Operation, Parameter, json_response
from mcp_federation.edge.wire import ToolSummary
from mcp_federation.errors import BusUnavailable, InvalidRequest

MAX_SEARCH = 200
AT_ONCE = 500
"""Tools that are listed before others have their turn: ten thousand in one go hold them up for 0.1 s."""

DISCOVER = Operation(
    method="GET",
    path="/discover",
    summary="The tools of the mesh",
    description="Those of this edge's own node first. Tools of silent nodes are listed as unavailable.",
    parameters=(
        Parameter("node", "only this node's tools", {"type": "string", "pattern": f"^{NODE_NAME.pattern}$"}),
        Parameter("available", "only tools of nodes that are there, or that are not", {"type": "boolean"}),
        Parameter(
            "q",
            "only tools with this text in a name, the title or the description, in either case",
            {"type": "string", "minLength": 1, "maxLength": MAX_SEARCH},
        ),
    ),
    answers={200: list[ToolSummary]},
    errors=(BusUnavailable,),
)


class Discover:
    """Lists the replica's tools; never touches the bus."""

    def __init__(self, client: FederationClient, home: str, check_catalog: Callable[[], None]) -> None:
        self._client = client
        self._home = home
        self._check_catalog = check_catalog

    async def __call__(self, request: Request) -> Response:
        """Answer `GET /discover`."""
        node, available, text = _filters(request)
        self._check_catalog()
        state = self._client.catalog.state
        tools = [
            tool
            for tool in self._client.discover()
            if (node is None or tool.node == node)
            and (available is None or state.is_available(tool.node) is available)
            and (text is None or _mentions(tool, text))
        ]
        tools.sort(key=lambda tool: tool.node != self._home)
        return json_response(Raw(await self._listing(tools)))

    async def _listing(self, tools: Sequence[CatalogTool]) -> bytes:
        """The JSON of the tools."""
        listed: list[bytes] = []
        for start in range(0, len(tools), AT_ONCE):
            listed += (msgspec.json.encode(self._summary(tool)) for tool in tools[start : start + AT_ONCE])
            await asyncio.sleep(0)
        return b"[%b]" % b",".join(listed)

    def _summary(self, tool: CatalogTool) -> ToolSummary:
        visible, entry = tool.tool, tool.entry
        return ToolSummary(
            name=mcp_name(tool.name, tool.node, self._home),
            description=visible.description,
            version=visible.version,
            title=visible.title,
            node=tool.node,
            local_name=tool.name,
            federated_name=tool.federated_name,
            digest=entry.digest,
            available=self._client.catalog.state.is_available(tool.node),
            executable=tool.executable,
            server=entry.server,
            input_schema=visible.input_schema,
            output_schema=visible.output_schema,
            annotations=visible.annotations,
            source_repo=UNSET if entry.source_repo is None else entry.source_repo,
        )


def _filters(request: Request) -> tuple[str | None, bool | None, str | None]:
    query = read_query(request, ("node", "available", "q"))
    node, available, text = query.get("node"), query.get("available"), query.get("q")
    if node is not None:
        check_node_name(node)
    if available not in (None, "true", "false"):
        raise InvalidRequest("available is true or false")
    if text is not None and not 0 < len(text) <= MAX_SEARCH:
        raise InvalidRequest(f"q has 1 to {MAX_SEARCH} characters")
    return node, None if available is None else available == "true", text


def _mentions(tool: CatalogTool, text: str) -> bool:
    words = (tool.federated_name, tool.tool.title or "", tool.tool.description)
    return any(text.casefold() in word.casefold() for word in words)
