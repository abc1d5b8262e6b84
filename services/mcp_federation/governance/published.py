"""Keeps the view of what is published that the checks compare a registration with."""

from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.contract.messages import (
    CatalogEntry,
    decode_catalog,
)
from mcp_federation.contract.subjects import CATALOG, CATALOG_STREAM
from mcp_federation.governance.checks.context import CatalogView, Published
from mcp_federation.trust.approvals import ApprovalVerifier


class PublishedTools:
    """Follows the catalog, and keeps of each approved tool what the checks need."""

    def __init__(self, bus: Bus, verifier: ApprovalVerifier) -> None:
        self._bus = bus
        self._verifier = verifier
        self.view = CatalogView()
        self._follower: Follower | None = None

    async def start(self, timeout: float) -> None:
        """Have read all that is published now.

        Raises:
            DeadlineExceeded: that took longer than `timeout` seconds.
        """
        self._follower = await self._bus.follow(CATALOG_STREAM, self._on_stored)
        await self._follower.caught_up(timeout)

    async def stop(self) -> None:
        """Follow it no longer."""
        if self._follower is not None:
            await self._follower.close()

    async def _on_stored(self, stored: Stored) -> None:
        node, name = CATALOG.parse(stored.subject)
        message = decode_catalog(stored.payload)
        self.view.drop(node, name)
        if isinstance(message, CatalogEntry):
            self._verifier.verify(message)  # else anybody could take a name by claiming to have published it
            self.view.put(
                Published(
                    node=node,
                    name=name,
                    server=message.server,
                    title=message.tool.title or "",
                    description=message.tool.description,
                )
            )
