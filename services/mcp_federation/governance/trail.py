"""The audit trail: every verdict and ruling, signed, each bound to all that came before it.

The trail's *chain* is a running hash over its records in the stream's order. Each record holds the chain
up to the last record that its writer had read, under the writer's signature: workers need not wait for
each other, and whoever changes, drops or inserts a record contradicts every later one.
"""

import time
from hashlib import sha256

from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.contract.messages import AuditRecord, Ruling, Verdict, decode, encode
from mcp_federation.contract.subjects import AUDIT, AUDIT_STREAM
from mcp_federation.errors import BusUnavailable, FederationError, InvalidRequest
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.logs import get_logger
from mcp_federation.trust.seals import Sealer

log = get_logger("governance")


class Chain:
    """The running hash: `value` is that over all records up to `sequence`."""

    def __init__(self) -> None:
        self.sequence = 0
        self.value = ""

    def add(self, stored: Stored) -> None:
        """Go on to the next record."""
        self.value = sha256(f"{self.value}\n{stored.sequence}\n".encode() + stored.payload).hexdigest()
        self.sequence = stored.sequence


class Trail:
    """Writes the audit trail; `start` follows it, for the chain."""

    def __init__(self, bus: Bus, sealer: Sealer) -> None:
        self._bus = bus
        self._sealer = sealer
        self._chain = Chain()
        self._follower: Follower | None = None

    async def start(self) -> None:
        """Read the trail from its beginning on; records can be written meanwhile."""
        self._follower = await self._bus.follow(AUDIT_STREAM, self._on_stored, on_anew=self._on_anew)

    async def stop(self) -> None:
        """Follow it no longer."""
        if self._follower is not None:
            await self._follower.close()

    async def note_verdict(self, verdict: Verdict, request_id: str) -> None:
        """Keep a verdict.

        Raises:
            BusUnavailable: the trail did not keep it.
        """
        await self._append(
            AuditRecord(
                node=verdict.node, name=verdict.name, at=time.time(), verdict=verdict, request_id=request_id
            )
        )

    async def note_ruling(self, ruling: Ruling) -> None:
        """Keep a person's ruling.

        Raises:
            BusUnavailable: the trail did not keep it.
        """
        await self._append(
            AuditRecord(
                node=ruling.node, name=ruling.name, at=time.time(), ruling=ruling, request_id=ruling.id
            )
        )

    async def has(self, node: str, name: str, request_id: str) -> bool:
        """Whether the last record on a tool is on that request.

        Raises:
            BusUnavailable: the trail does not answer.
        """
        stored = await self._bus.last(AUDIT_STREAM, AUDIT.of(node, name))
        if stored is None:
            return False
        try:
            return decode(stored.payload, AuditRecord).request_id == request_id
        except InvalidRequest:
            return False

    async def _append(self, record: AuditRecord) -> None:
        bound = AuditRecord(
            node=record.node,
            name=record.name,
            at=record.at,
            verdict=record.verdict,
            ruling=record.ruling,
            request_id=record.request_id,
            after=self._chain.sequence,
            chain=self._chain.value,
        )
        try:
            await self._bus.store(AUDIT.of(record.node, record.name), encode(self._sealer.seal(bound)))
        except FederationError as error:
            log.error(
                "record_not_kept",
                message="nothing is given out that the audit trail does not have",
                node=record.node,
                tool=quote(record.name),
                reason=error.message,
            )
            raise BusUnavailable("the decision could not be recorded; try again later") from error

    async def _on_anew(self) -> None:
        self._chain = Chain()

    async def _on_stored(self, stored: Stored) -> None:
        self._chain.add(stored)
