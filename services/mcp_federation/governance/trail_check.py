"""Checks an audit trail: that governance wrote every record, and that none was changed, dropped or added."""

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from mcp_federation.bus.protocol import Stored
from mcp_federation.contract.messages import AuditRecord
from mcp_federation.contract.subjects import AUDIT
from mcp_federation.errors import FederationError
from mcp_federation.governance.trail import Chain
from mcp_federation.trust.keys import TrustedKey
from mcp_federation.trust.seals import SealVerifier


class Fault(NamedTuple):
    """What is wrong with the trail, and at which record; 0 where it is the whole."""

    sequence: int
    why: str


class Anchor(NamedTuple):
    """The chain as somebody noted it at a record: what came before cannot have been changed since."""

    sequence: int
    chain: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.chain}"


class TrailCheck:
    """Takes the records one by one, from the first; `faults` are those found so far."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._seals = SealVerifier(keys)
        self._chain = Chain()
        self._values: dict[int, str] = {0: ""}
        self._vouched = 0
        self._seen: dict[bytes, int] = {}
        self.faults: list[Fault] = []

    @property
    def head(self) -> Anchor:
        """The chain up to the last record taken."""
        return Anchor(self._chain.sequence, self._chain.value)

    @property
    def loose(self) -> int:
        """How many of the last records no later one vouches for: dropping those would not show."""
        return sum(1 for sequence in self._values if sequence > self._vouched)

    def add(self, stored: Stored) -> None:
        """Take the next record."""
        expected = self._chain.sequence + 1
        if stored.sequence != expected:
            self._fault(stored, f"records {expected} to {stored.sequence - 1} are missing")
        try:
            record = self._seals.open(stored.payload, AuditRecord)
            if AUDIT.parse(stored.subject) != (record.node, record.name):
                self._fault(stored, "it stands under the name of another tool")
            self._check_binding(stored, record)
            self._check_first(stored)
        except FederationError as error:
            self._fault(stored, error.message)
        self._chain.add(stored)
        self._values[stored.sequence] = self._chain.value

    def check_anchor(self, anchor: Anchor) -> None:
        """Compare with what was noted before."""
        if self._values.get(anchor.sequence) != anchor.chain:
            self.faults.append(Fault(anchor.sequence, "the trail up to here is not the one that was noted"))

    def _check_binding(self, stored: Stored, record: AuditRecord) -> None:
        if record.after >= stored.sequence or self._values.get(record.after) != record.chain:
            self._fault(
                stored, f"what came before it, up to record {record.after}, is not what its writer saw"
            )
        else:
            self._vouched = max(self._vouched, record.after)

    def _check_first(self, stored: Stored) -> None:
        # Genuine each time: only that governance never writes one twice tells a copy.
        first = self._seen.setdefault(sha256(stored.payload).digest(), stored.sequence)
        if first != stored.sequence:
            self._fault(stored, f"it is a copy of record {first}")

    def _fault(self, stored: Stored, why: str) -> None:
        self.faults.append(Fault(stored.sequence, why))
