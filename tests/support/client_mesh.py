"""A client, and nodes that publish tools and answer its calls as a test tells them to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.client import FederationClient
from mcp_federation.client.balancing import Balancer
from mcp_federation.contract.mcp import CallResult
from mcp_federation.contract.messages import encode
from mcp_federation.contract.subjects import CATALOG_STREAM, EXECUTE, RULING_STREAM
from mcp_federation.trust.approvals import ApprovalVerifier
from tests.conftest import Connect
from tests.support.publishing import Publisher

NODES = ("acme", "globex")


class Mesh:
    """Two nodes that publish tools and answer calls as a test tells them to."""

    def __init__(self, bus: Bus, client: FederationClient, publishers: dict[str, Publisher]) -> None:
        self.bus = bus
        self.client = client
        self.publishers = publishers
        self.calls: list[Delivery] = []

    async def publish(self, node: str, name: str, **fields: Any) -> None:
        await self.publishers[node].publish(name, **fields)
        found = await self.client.catalog.wait_until(
            lambda: self.client.catalog.state.get(node, name) is not None, 10
        )
        assert found

    async def serve(self, node: str, result: CallResult | Exception | None = None) -> None:
        async def respond(delivery: Delivery) -> Reply:
            self.calls.append(delivery)
            if isinstance(result, Exception):
                raise result
            text = CallResult(content=[{"type": "text", "text": f"from {node}"}])
            return Reply(encode(result or text))

        await self.bus.respond(EXECUTE.every(node), respond)
        await self.bus.flush()


@asynccontextmanager
async def client_mesh(connect: Connect) -> AsyncIterator[Mesh]:
    bus = await connect()
    await bus.ensure_stream(CATALOG_STREAM)
    await bus.ensure_stream(RULING_STREAM)
    publishers = {node: Publisher(bus, node) for node in NODES}
    verifier = ApprovalVerifier([publisher.approver.public for publisher in publishers.values()])
    catalog = CatalogReplica(await connect(), verifier)
    await catalog.start()
    balancer = Balancer(home="acme", explore=0)
    yield Mesh(bus, FederationClient(await connect(), catalog, balancer=balancer), publishers)
    await catalog.stop()
