"""Publishes signed catalog entries and presences, as a node would."""

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.state import DigestSet
from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.messages import CatalogEntry, Presence, Tool, Withdrawal, encode
from mcp_federation.contract.subjects import CATALOG, EXECUTE, PRESENCE
from mcp_federation.trust.approvals import ApprovalVerifier, Approver


class Publisher:
    """A node's publishing half, with a governance key of its own unless one is given."""

    def __init__(self, bus: Bus, node: str = "acme", approver: Approver | None = None) -> None:
        self.bus = bus
        self.node = node
        self.approver = approver or Approver(Ed25519PrivateKey.generate())
        self.published = DigestSet()

    @property
    def verifier(self) -> ApprovalVerifier:
        return ApprovalVerifier([self.approver.public])

    def entry(
        self,
        name: str,
        description: str = "Does a thing for a test.",
        annotations: bytes | None = None,
        **fields: object,
    ) -> CatalogEntry:
        schema = msgspec.Raw(b'{"type":"object","properties":{"text":{"type":"string"}}}')
        tool = canonical_tool(
            Tool(
                name=name,
                description=description,
                input_schema=schema,
                parameters=("text",),
                annotations=msgspec.Raw(annotations) if annotations is not None else None,
            )
        )
        digest = tool_digest(tool)
        entry = CatalogEntry(
            node=self.node,
            tool=tool,
            digest=digest,
            approval=self.approver.approve(self.node, name, digest),
            execute_subject=EXECUTE.of(self.node, name),
        )
        return msgspec.structs.replace(entry, **fields)

    async def publish(
        self,
        name: str,
        description: str = "Does a thing for a test.",
        annotations: bytes | None = None,
        **fields: object,
    ) -> None:
        entry = self.entry(name, description, annotations, **fields)
        await self.bus.store(CATALOG.of(self.node, name), encode(entry))
        self.published.put(name, entry.digest)

    async def withdraw(self, name: str) -> None:
        await self.bus.store(CATALOG.of(self.node, name), encode(Withdrawal(node=self.node, name=name)))
        self.published.drop(name)

    async def presence(self, *, instance: str = "one", interval: float = 60, **fields: object) -> None:
        presence = Presence(
            node=self.node,
            instance=instance,
            interval=interval,
            catalog_hash=self.published.hash,
            tools=len(self.published),
        )
        await self.bus.publish(PRESENCE.of(self.node), encode(msgspec.structs.replace(presence, **fields)))
