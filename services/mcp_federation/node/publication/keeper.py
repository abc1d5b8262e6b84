"""Puts the node's own entries back where somebody wrote over them, or NATS lost them.

Whoever may publish on the node's catalog subjects can put a forged entry in the place of a good one. Nobody
believes it, but the good one is gone. Entries of the node's replicas hold, and are left alone; so are their
withdrawals, but for those of a replica whose own server is down while ours serves.
"""

from collections.abc import Callable

from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.contract.messages import (
    SERVER_DOWN,
    CatalogEntry,
    decode_catalog,
)
from mcp_federation.contract.subjects import CATALOG, CATALOG_STREAM
from mcp_federation.errors import ApprovalRefused, InvalidRequest
from mcp_federation.logs import get_logger
from mcp_federation.trust.approvals import ApprovalVerifier

log = get_logger("node")


class Keeper:
    """Follows the node's own subjects of the catalog; `restore` is called with the name of a lost entry, and
    `restore_all` where the catalog began anew.

    Without a verifier every signature is taken for good.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        verifier: ApprovalVerifier | None,
        restore: Callable[[str], None],
        restore_all: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._node = node
        self._verifier = verifier
        self._restore = restore
        self._restore_all = restore_all
        self._follower: Follower | None = None

    async def start(self) -> None:
        """Keep them from now on."""
        self._follower = await self._bus.follow(
            CATALOG_STREAM, self._on_stored, subject=CATALOG.every(self._node), on_anew=self._on_anew
        )

    async def stop(self) -> None:
        """Keep them no longer."""
        if self._follower is not None:
            await self._follower.close()

    async def _on_anew(self) -> None:
        self._restore_all()

    async def _on_stored(self, stored: Stored) -> None:
        _, name = CATALOG.parse(stored.subject)
        try:
            message = decode_catalog(stored.payload)
            if not isinstance(message, CatalogEntry):
                if message.reason == SERVER_DOWN:
                    self._restore(name)
                return
            if (message.node, message.tool.name) != (self._node, name):
                raise InvalidRequest("the entry is of another tool than its subject")
            if self._verifier is not None:
                self._verifier.verify(message)
        except (ApprovalRefused, InvalidRequest) as error:
            log.warning("entry_overwritten", tool=name, reason=error.message)
            self._restore(name)
