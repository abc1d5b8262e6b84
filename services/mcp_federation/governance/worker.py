"""Answers registrations with verdicts: checked, signed where approved, kept before they are given out."""

import asyncio
from typing import Final

import msgspec

from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.contract.messages import Registration, Verdict, decode, encode
from mcp_federation.contract.names import check_local_name
from mcp_federation.contract.subjects import AUDIT, REGISTER
from mcp_federation.errors import BusUnavailable, FederationError, InvalidRequest
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.verdict import judge
from mcp_federation.logs import get_logger
from mcp_federation.trust.approvals import Approver

log = get_logger("governance")

INLINE_BYTES: Final = 16 * 1024
"""Registrations up to this size are judged in about a millisecond, sooner than a thread would start."""


class RegistrationDesk:
    """The responder of the registration subjects."""

    def __init__(self, bus: Bus, approver: Approver) -> None:
        self._bus = bus
        self._approver = approver

    async def answer(self, delivery: Delivery) -> Reply:
        """The verdict on the registration that the delivery carries.

        Raises:
            InvalidRequest: it is no registration, or not one of the node on whose subject it came.
            BusUnavailable: the audit stream did not keep the verdict.
        """
        registration = _registration(delivery)
        if len(delivery.payload) <= INLINE_BYTES:
            verdict = judge(registration)
        else:
            verdict = await asyncio.to_thread(judge, registration)
        verdict = self._signed(verdict)
        payload = encode(verdict)
        await self._keep(verdict, payload)
        log.info(
            "verdict_given",
            message=f"{quote(verdict.name)}@{verdict.node} is {verdict.decision}",
            node=verdict.node,
            tool=quote(verdict.name),
            digest=verdict.digest,
            decision=verdict.decision,
            rules=sorted({finding.rule for finding in verdict.findings}),
        )
        return Reply(payload)

    def _signed(self, verdict: Verdict) -> Verdict:
        if verdict.decision != "approved":
            return verdict
        approval = self._approver.approve(verdict.node, verdict.name, verdict.digest)
        return msgspec.structs.replace(verdict, approval=approval)

    async def _keep(self, verdict: Verdict, payload: bytes) -> None:
        try:
            await self._bus.store(AUDIT.of(verdict.node, verdict.name), payload)
        except FederationError as error:
            log.error(
                "verdict_not_kept",
                message="no verdict is given out that the audit trail does not have",
                node=verdict.node,
                tool=quote(verdict.name),
                reason=error.message,
            )
            raise BusUnavailable("the verdict could not be recorded; register again later") from error


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
