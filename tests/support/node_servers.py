"""Nodes beside a real governance worker, and what a replica and the presence show of them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp.server.mcpserver import MCPServer

from mcp_federation.bus.protocol import Bus, Delivery
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.client import FederationClient
from mcp_federation.contract.messages import Presence, ServerState, decode
from mcp_federation.contract.subjects import PRESENCE
from mcp_federation.governance.app import GovernanceWorker
from mcp_federation.node.app import Node
from mcp_federation.node.publication import registrar
from mcp_federation.node.servers import child
from mcp_federation.node.servers import server as supervision
from mcp_federation.node.servers.config import Spec, StdioSpec
from mcp_federation.node.servers.toolboxes import ToolboxSpec
from mcp_federation.settings import load_settings
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import TrustedKey, trusted
from mcp_federation.trust.policy import PRESETS, Policy
from tests.conftest import Connect
from tests.support.plain_servers import GOOD

HERE = Path(__file__).parent
PATIENCE = 10.0


def plain(manner: str = GOOD) -> StdioSpec:
    """The plain server, which starts in a moment."""
    return StdioSpec(sys.executable, ("-I", "-S", str(HERE / "plain_servers.py"), manner))


def sdk_over_stdio() -> StdioSpec:
    """The server made with the SDK, in a process of its own."""
    root = str(HERE.parent.parent)
    return StdioSpec(sys.executable, ("-m", "tests.support.sdk_servers"), env={"PYTHONPATH": root}, cwd=root)


def toolbox(name: str, *tools: str, description: str = "Gives the text back as it came.") -> MCPServer:
    """A Python toolbox with tools that give their text back."""
    server: MCPServer = MCPServer(name, version="1.0.0")

    async def give(text: str = "") -> str:
        return text

    for tool in tools:
        server.add_tool(give, name=tool, description=description)
    return server


def boxed(*servers: MCPServer) -> dict[str, Spec | ToolboxSpec]:
    """Specs of toolboxes by their names."""
    return {server.name: ToolboxSpec(server) for server in servers}


class Mesh:
    """Nodes and a governance worker on one bus, a replica, a client, and all presences that were sent."""

    def __init__(self, connect: Connect, folder: Path) -> None:
        self.connect = connect
        self.folder = folder
        self.presences: list[Presence] = []
        self.nodes: list[Node] = []
        self.governance: GovernanceWorker | None = None
        self._heard = asyncio.Condition()

    async def open(self) -> None:
        self.bus: Bus = await self.connect()
        self.key = await self.govern()
        self.catalog = await self.replica()
        await self.bus.subscribe(PRESENCE.every(), self._on_presence, limit=1)
        self.client = FederationClient(self.bus, self.catalog)

    async def close(self) -> None:
        for node in self.nodes:
            await node.stop()
        await self.catalog.stop()
        await self.ungovern()

    async def replica(self, imports: Policy | None = None) -> CatalogReplica:
        """A replica of the catalog, which has read all that is published."""
        replica = CatalogReplica(self.bus, ApprovalVerifier([self.key]), imports)
        await replica.start()
        return replica

    async def govern(
        self, operators: Iterable[Ed25519PrivateKey] = (), policy: Policy = PRESETS["standard"]
    ) -> TrustedKey:
        known = [trusted(key.public_key()) for key in operators]
        bus = await self.connect()
        self.governance = GovernanceWorker(bus, self.folder, operators=known, policy=policy)
        return await self.governance.start()

    async def ungovern(self) -> None:
        if self.governance is not None:
            await self.governance.stop()
            self.governance = None

    async def make(self, specs: dict[str, Any] | None = None, name: str = "acme", **settings: Any) -> Node:
        chosen: dict[str, Any] = {
            "state_dir": self.folder,
            "heartbeat": 0.1,
            "poll_interval": 60,
            "start_timeout": 10,
            **settings,
        }
        return Node(await self.connect(), load_settings(node=name, **chosen), specs or {})

    async def node(self, specs: dict[str, Any] | None = None, **settings: Any) -> Node:
        node = await self.make(specs, **settings)
        self.nodes.append(node)
        await node.start()
        await node._bus.flush()  # on NATS: else a request may come before the subscriptions
        return node

    async def leave(self, node: Node) -> None:
        self.nodes.remove(node)
        await node.stop()

    def names(self, node: str = "acme") -> set[str]:
        """The tools that a replica shows of a node."""
        return {tool.name for tool in self.catalog.state.tools() if tool.node == node}

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Wait until something holds of the catalog."""
        held = await self.catalog.wait_until(condition, timeout)
        assert held, f"the catalog shows {sorted(tool.federated_name for tool in self.catalog.state.tools())}"

    async def shows(self, names: Iterable[str], node: str = "acme") -> None:
        """Wait until a replica shows just these tools of a node."""
        wanted = set(names)
        await self.until(lambda: self.names(node) == wanted)

    async def has(self, *names: str, node: str = "acme") -> None:
        """Wait until a replica shows these tools of a node."""
        await self.until(lambda: set(names) <= self.names(node))

    async def heard(self, condition: Callable[[Presence], bool], timeout: float = PATIENCE) -> Presence:
        """The first presence from now on of which something holds."""
        seen = len(self.presences)
        async with asyncio.timeout(timeout), self._heard:
            while True:
                for presence in self.presences[seen:]:
                    if condition(presence):
                        return presence
                seen = len(self.presences)
                await self._heard.wait()

    async def ready(self, node: Node, server: str, restarts: int = 0) -> None:
        """Wait until a presence shows a server ready, after so many restarts at least."""
        instance = node.presence().instance
        await self.heard(
            lambda presence: (
                presence.instance == instance
                and presence.status == "up"
                and (state := state_of(presence, server)).state == "ready"
                and state.restarts >= restarts
            )
        )

    async def call(self, name: str, /, timeout: float = PATIENCE, **arguments: Any) -> Any:
        return (await self.client.execute(f"{name}@acme", arguments, timeout=timeout)).value

    async def agrees(self, node: Node) -> None:
        """Wait until the node's presence has the hash of what the replica shows."""
        state = self.catalog.state.node(node.presence().node)
        await self.heard(lambda presence: presence.catalog_hash == state.published.hash)

    async def _on_presence(self, delivery: Delivery) -> None:
        async with self._heard:
            self.presences.append(decode(delivery.payload, Presence))
            self._heard.notify_all()


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less before anything is tried again."""
    monkeypatch.setattr(supervision, "BACKOFF_FIRST", 0.1)
    monkeypatch.setattr(registrar, "RETRY_FIRST", 0.1)
    # A server that does not end by itself is otherwise given two seconds.
    monkeypatch.setattr(child, "EXIT_TIMEOUT", 0.1)


@asynccontextmanager
async def mesh_on(connect: Connect, folder: Path) -> AsyncIterator[Mesh]:
    mesh = Mesh(connect, folder)
    await mesh.open()
    try:
        yield mesh
    finally:
        await mesh.close()


def state_of(presence: Presence, server: str) -> ServerState:
    return next(state for state in presence.servers if state.name == server)
