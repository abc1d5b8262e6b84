"""`GET /healthz` and `GET /readyz`: does the process live, and can it serve."""

from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.state import CatalogState, NodeState
from mcp_federation.edge.guard import Gate
from mcp_federation.edge.operations import Operation, json_response
from mcp_federation.edge.wire import Health, NodeHealth, NodeServer, Readiness

HEALTH = Operation(
    method="GET",
    path="/healthz",
    summary="Whether the process lives",
    description="It answers: it lives.",
    answers={200: Health},
    public=True,
)
READINESS = Operation(
    method="GET",
    path="/readyz",
    summary="Whether the edge can serve",
    description=(
        "Ready: the bus is connected, the catalog was read, the home node is there. With a valid token the "
        "answer has these checks, and each node with its MCP servers and the tools that were refused."
    ),
    answers={200: Readiness, 503: Readiness},
    public=True,
)


async def healthz(_: Request) -> Response:
    """The process lives."""
    return json_response(Health(status="ok"))


class Ready:
    """Tells how the mesh looks from here."""

    def __init__(
        self, bus: Bus, catalog: CatalogState, replayed: Callable[[], bool], home: str, gate: Gate
    ) -> None:
        self._bus = bus
        self._catalog = catalog
        self._replayed = replayed
        self._home = home
        self._gate = gate

    async def __call__(self, request: Request) -> Response:
        """Answer `GET /readyz`."""
        home = self._catalog.nodes.get(self._home)
        checks = {
            "bus": self._bus.connected,
            "catalog": self._replayed(),
            "home_node": home is not None and home.available and bool(home.instances),
        }
        ready = all(checks.values())
        readiness = Readiness(status="ready" if ready else "not_ready")
        if self._gate.admits(request.scope):
            nodes = sorted(self._catalog.nodes.values(), key=lambda node: (node is not home, node.name))
            readiness = msgspec.structs.replace(
                readiness, checks=checks, nodes=[self._node(node) for node in nodes]
            )
        return json_response(readiness, 200 if ready else 503)

    def _node(self, node: NodeState) -> NodeHealth:
        presences, unverified = node.instances.values(), node.unverified()
        refused = {tool.name: tool for presence in presences for tool in presence.refused}
        return NodeHealth(
            name=node.name,
            home=node.name == self._home,
            available=node.available,
            tools=len(node.tools.keys() - unverified.keys()),
            in_flight=sum(presence.in_flight for presence in presences),
            servers=tuple(
                NodeServer(**msgspec.structs.asdict(server), instance=presence.instance)
                for presence in presences
                for server in presence.servers
            ),
            refused=tuple(refused.values()),
            unverified=unverified,
        )
