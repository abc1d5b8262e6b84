"""What governance remembers of each tool, in a stream that all workers share.

A case is sealed with the governance key, and replaced only by who read the one before: of two workers that
judge the same tool at once, the second looks again.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Case, Registration, Tool, Verdict, encode
from mcp_federation.contract.subjects import CASE, CASE_STREAM
from mcp_federation.errors import ApprovalRefused, InvalidRequest
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.verdict import Past
from mcp_federation.logs import get_logger
from mcp_federation.trust.seals import Sealer

log = get_logger("governance")

MAX_KEPT_BYTES: Final = 256 * 1024
"""A text larger than that is remembered by its digest only: a case holds two, and goes in one message."""


@dataclass(frozen=True, slots=True)
class Page:
    """What the casebook has on a tool, of how many bytes, and the sequence by which it may be replaced."""

    past: Past
    sequence: int
    size: int = 0

    @property
    def case(self) -> Case | None:
        """The case, where there is one that can be believed."""
        return self.past.case


class Casebook:
    """Reads and writes cases."""

    def __init__(self, bus: Bus, sealer: Sealer) -> None:
        self._bus = bus
        self._sealer = sealer

    async def read(self, node: str, name: str) -> Page:
        """What is known of a tool.

        Raises:
            BusUnavailable: the stream does not answer.
        """
        stored = await self._bus.last(CASE_STREAM, CASE.of(node, name))
        if stored is None:
            return Page(Past(), 0)
        try:
            case = self._sealer.open(stored.payload, Case)
            CASE.check(stored.subject, case.node, case.name)
        except (ApprovalRefused, InvalidRequest) as error:
            log.error("case_refused", node=node, tool=quote(name), reason=error.message)
            return Page(Past(lost=True), stored.sequence, len(stored.payload))
        return Page(Past(case), stored.sequence, len(stored.payload))

    async def write(self, case: Case, page: Page) -> None:
        """Put the case in place of what was read.

        Raises:
            Conflict: somebody else was first.
            BusUnavailable: the stream does not answer.
        """
        payload = encode(self._sealer.seal(case))
        await self._bus.store(CASE.of(case.node, case.name), payload, expect=page.sequence)


def case_after(
    registration: Registration, verdict: Verdict, before: Case | None, *, at: float, request_id: str
) -> Case:
    """The case once a registration was answered with a verdict."""
    tool = _kept(registration.tool)
    case = Case(
        node=verdict.node,
        name=verdict.name,
        verdict=verdict,
        at=at,
        request_id=request_id,
        server=registration.server,
        approved=before.approved if before else None,
        approved_digest=before.approved_digest if before else None,
        pending=tool if verdict.decision == "quarantined" else None,
        ruling=before.ruling if before else None,
    )
    if verdict.decision != "approved":
        return case
    return msgspec.structs.replace(case, approved=tool, approved_digest=verdict.digest)


def _kept(tool: Tool) -> Tool | None:
    return tool if len(encode(tool)) <= MAX_KEPT_BYTES else None
