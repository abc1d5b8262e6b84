"""Answers registrations with verdicts: checked, signed where they approve, kept before they are given out."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.contract.messages import Case, Finding, Registration, Verdict, decode, encode
from mcp_federation.contract.names import check_local_name
from mcp_federation.contract.subjects import REGISTER, Header
from mcp_federation.errors import BusUnavailable, Conflict, InvalidRequest
from mcp_federation.governance import model_judge, probing
from mcp_federation.governance.casebook import Casebook, Page, case_after
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.claims import Claims
from mcp_federation.governance.model_judge import ModelJudge
from mcp_federation.governance.probing import Prober
from mcp_federation.governance.trail import Trail
from mcp_federation.governance.turns import Turns
from mcp_federation.governance.verdict import judge
from mcp_federation.logs import get_logger
from mcp_federation.trust.approvals import Approver
from mcp_federation.trust.policy import Policy
from mcp_federation.trust.seals import Sealer

log = get_logger("governance")

INLINE_BYTES: Final = 32 * 1024
"""Up to this size a registration and its case are read in about a millisecond; beyond, in a thread."""

TRIES: Final = 5
"""How often a registration is judged anew because another worker answered one of the same tool."""

AT_ONCE: Final = 4
"""Registrations of one node that are judged at a time: a node with thousands does not delay the others."""

MOST_OF_A_NODE: Final = 512
"""Registrations of one node that are judged or wait; a node's replicas have 16 each under way."""

MAX_REQUEST_ID: Final = 64


class RegistrationDesk:
    """The responder of the registration subjects; `waiting` counts those that it has at hand."""

    def __init__(
        self,
        bus: Bus,
        approver: Approver,
        sealer: Sealer,
        trail: Trail,
        policy: Policy,
        catalog: CatalogView,
        claims: Claims,
        model: ModelJudge | None = None,
    ) -> None:
        self._approver = approver
        self._casebook = Casebook(bus, sealer)
        self._trail = trail
        self._policy = policy
        self._catalog = catalog
        self._claims = claims
        self._model = model
        self._prober = Prober(bus)
        self.waiting = 0
        self._turns = Turns(AT_ONCE, MOST_OF_A_NODE)

    async def answer(self, delivery: Delivery) -> Reply:
        """The verdict on the registration that the delivery carries.

        Raises:
            InvalidRequest: it is no registration, or not one of the node on whose subject it came.
            Overloaded: the node has too many here already.
            BusUnavailable: the verdict could not be kept.
        """
        registration = _registration(delivery)
        request_id = delivery.headers.get(Header.REQUEST_ID, "")[:MAX_REQUEST_ID]
        self.waiting += 1
        try:
            async with self._turns.of(registration.node):
                verdict = await self._decide(registration, request_id, len(delivery.payload))
        finally:
            self.waiting -= 1
        log.info(
            "verdict_given",
            message=f"{quote(verdict.name)}@{verdict.node} is {verdict.decision}",
            node=verdict.node,
            tool=quote(verdict.name),
            digest=verdict.digest,
            decision=verdict.decision,
            rules=sorted({finding.rule for finding in verdict.findings}),
        )
        return Reply(encode(verdict))

    async def _decide(self, registration: Registration, request_id: str, size: int) -> Verdict:
        node, name = registration.node, registration.tool.name
        for _ in range(TRIES):
            page = await self._casebook.read(node, name)
            if (case := page.case) and request_id and _answers(case, registration, request_id):
                # Asked again: the worker that answered died, or its answer was lost.
                if not await self._trail.has(node, name, request_id):
                    await self._trail.note_verdict(case.verdict, request_id)
                return case.verdict
            verdict = await self._judge(registration, page, large=size + page.size > INLINE_BYTES)
            at = time.time()
            case = case_after(registration, verdict, page.case, at=at, request_id=request_id)
            try:
                await self._casebook.write(case, page)
            except Conflict:
                continue
            await self._trail.note_verdict(verdict, request_id)
            return verdict
        raise BusUnavailable("the tool is being registered by many at once; register again later")

    async def _judge(self, registration: Registration, page: Page, *, large: bool) -> Verdict:
        async def weigh(further: Mapping[str, Sequence[Finding]]) -> Verdict:
            work = partial(
                judge, registration, self._catalog, policy=self._policy, past=page.past, further=further
            )
            return await asyncio.to_thread(work) if large else work()

        verdict = await weigh({})
        further = await self._further(registration) if verdict.decision != "rejected" else {}
        if further:
            verdict = await weigh(further)
        if verdict.decision == "approved" and (collisions := await self._claims.claim(registration)):
            verdict = await weigh({**further, "security": collisions})
        if verdict.decision != "approved":
            return verdict
        ruling = page.case.ruling if page.case else None
        approval = self._approver.approve(
            verdict.node,
            verdict.name,
            verdict.digest,
            bytes(verdict.assessment or b""),
            after=ruling.revoked_before if ruling else 0.0,
        )
        return msgspec.structs.replace(verdict, approval=approval)

    async def _further(self, registration: Registration) -> dict[str, Sequence[Finding]]:
        """What the suites find that ask somebody; one that gets no answer is not among them."""
        asked: dict[str, Sequence[Finding] | None] = {}
        if (probe := self._policy.of(registration.node).probe) is not None:
            asked[probing.SUITE] = await self._prober.findings(registration, probe)
        if self._model is not None:
            asked[model_judge.SUITE] = await self._model.findings(registration)
        return {suite: found for suite, found in asked.items() if found is not None}


def _answers(case: Case, registration: Registration, request_id: str) -> bool:
    return (case.request_id, case.verdict.digest) == (request_id, registration.digest)


def _registration(delivery: Delivery) -> Registration:
    node, _ = REGISTER.parse(delivery.subject)
    registration = decode(delivery.payload, Registration)
    check_local_name(registration.tool.name)
    if registration.node != node:
        log.warning(
            "foreign_registration",
            message="a node may register for itself only",
            node=node,
            claimed=registration.node,
        )
        raise InvalidRequest(f"{node} may register tools of its own only, not of {registration.node}")
    return registration
