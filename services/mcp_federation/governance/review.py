"""Carries out what operators order: approves, rejects and revokes, and tells the mesh."""

import time
from typing import Final

import msgspec

from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.contract.messages import Case, ReviewCommand, Ruled, Ruling, decode, encode
from mcp_federation.contract.names import federated_name
from mcp_federation.contract.subjects import REVIEW, RULING
from mcp_federation.errors import ApprovalRefused, BusUnavailable, Conflict, ToolNotFound
from mcp_federation.governance.casebook import Casebook
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.trail import Trail
from mcp_federation.logs import get_logger
from mcp_federation.trust.approvals import validity_of
from mcp_federation.trust.orders import Act, Order, OrderVerifier
from mcp_federation.trust.seals import Sealer

log = get_logger("governance")

TRIES: Final = 5
_DONE: Final[dict[Act, Ruled]] = {"approve": "approved", "reject": "rejected", "revoke": "revoked"}


class ReviewDesk:
    """The responder of the review subjects."""

    def __init__(self, bus: Bus, sealer: Sealer, trail: Trail, operators: OrderVerifier) -> None:
        self._bus = bus
        self._sealer = sealer
        self._casebook = Casebook(bus, sealer)
        self._trail = trail
        self._operators = operators

    async def answer(self, delivery: Delivery) -> Reply:
        """The ruling that an order leads to, once it is kept and everybody can read it.

        Raises:
            Unauthorized: no operator gave the order.
            ToolNotFound: governance never saw the tool.
            Conflict: the tool is not, or no longer, as the operator saw it.
            BusUnavailable: the ruling could not be kept.
        """
        node, name = REVIEW.parse(delivery.subject)
        command = decode(delivery.payload, ReviewCommand)
        order, key_id = self._operators.open(command.order, node, name)
        ruling = await self._rule(node, name, order, key_id)
        # Also when it was ruled before, and the worker that did died before it told.
        payload = encode(ruling)
        await self._bus.store(RULING.of(node, name), payload)
        if not await self._trail.has(node, name, ruling.id):
            await self._trail.note_ruling(ruling)
        log.info(
            "ruling_given",
            message=f"{quote(name)}@{node} is {ruling.decision} by {quote(ruling.by)}",
            node=node,
            tool=quote(name),
            digest=ruling.digest,
            decision=ruling.decision,
            key_id=key_id,
        )
        return Reply(payload)

    async def _rule(self, node: str, name: str, order: Order, key_id: str) -> Ruling:
        for _ in range(TRIES):
            page = await self._casebook.read(node, name)
            if page.case is None:
                raise ToolNotFound(f"governance knows no {federated_name(name, node)}")
            last = page.case.ruling
            if last is not None and last.id == order.jti:
                return last
            if order.after != (last.id if last else ""):
                raise Conflict("somebody else ruled on the tool meanwhile; look at it again")
            ruling = self._sealer.seal(_ruling(page.case, order, key_id))
            try:
                await self._casebook.write(_ruled(page.case, ruling), page)
            except Conflict:
                continue
            return ruling
        raise BusUnavailable("the tool is being registered by many at once; try again later")


def _ruling(case: Case, order: Order, key_id: str) -> Ruling:
    _check(case, order)
    now = time.time()
    revoked_before = case.ruling.revoked_before if case.ruling else 0.0
    if order.act != "approve":
        revoked_before = max(now, revoked_before, _issued(case))
    return Ruling(
        node=case.node,
        name=case.name,
        digest=order.digest,
        decision=_DONE[order.act],
        by=f"{order.by} (key {key_id})",
        reason=order.reason,
        at=now,
        id=order.jti,
        rules=tuple(sorted({finding.rule for finding in case.verdict.findings})),
        revoked_before=revoked_before,
    )


def _check(case: Case, order: Order) -> None:
    """Raise `Conflict` where the order does not fit how the tool stands."""
    what = federated_name(case.name, case.node)
    if order.act == "revoke":
        if order.digest not in (case.approved_digest, case.verdict.digest):
            raise Conflict(f"governance approved another text of {what} by now; look at it again")
        return
    if order.digest != case.verdict.digest:
        raise Conflict(f"{what} was registered with another text meanwhile; look at it again")
    if any(finding.rule == "ruled-against" for finding in case.verdict.findings):
        raise Conflict(
            f"{what} is rejected: a person ruled against just this text, for good; change the text"
        )
    if case.verdict.decision == "rejected" and order.act == "approve":
        raise Conflict(f"{what} is rejected; only its policy can let it pass, by the list `allow`")
    if case.verdict.decision == "approved":
        raise Conflict(f"{what} is approved; to take that back, revoke it")


def _ruled(case: Case, ruling: Ruling) -> Case:
    # Without the request's id: who asks again is judged anew, by this ruling.
    return msgspec.structs.replace(case, ruling=ruling, request_id="")


def _issued(case: Case) -> float:
    """When the last approval was issued, which another worker's clock may have ahead of ours."""
    try:
        return validity_of(case.verdict.approval).issued if case.verdict.approval else 0.0
    except ApprovalRefused:
        return 0.0
