"""What a person decides: over the bus, by a key, and from then on everywhere."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from mcp_federation.bus.protocol import Stored
from mcp_federation.contract.messages import (
    AuditRecord,
    Case,
    Registration,
    ReviewCommand,
    Ruling,
    Submission,
    SubmissionAnswer,
    Verdict,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.subjects import (
    AUDIT,
    AUDIT_STREAM,
    CASE,
    CASE_STREAM,
    REGISTER,
    REVIEW,
    RULING,
    RULING_STREAM,
    SUBMIT,
    Header,
)
from mcp_federation.errors import Conflict, NodeUnavailable, ToolNotFound, Unauthorized
from mcp_federation.governance.operators import Operator, is_pending, standing
from mcp_federation.governance.verdict import Past, judge
from mcp_federation.trust.approvals import validity_of
from mcp_federation.trust.keys import load_key
from mcp_federation.trust.orders import Act, sign_order
from mcp_federation.trust.policy import PRESETS
from tests.conftest import Connect
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on, toolbox
from tests.support.registrations import CLEAN, a_registration, a_tool, rules

TODO = "TODO"
"""A description that the standard policy quarantines."""


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        yield mesh


@pytest.fixture
def key(mesh: Mesh) -> Ed25519PrivateKey:
    """Governance's own key, which its owner may decide with."""
    return load_key(mesh.folder / "governance.key")


@pytest.fixture
def officer(mesh: Mesh) -> Operator:
    return Operator(mesh.bus, [mesh.key])


async def rule(mesh: Mesh, key: Ed25519PrivateKey, act: Act, name: str, reason: str = "") -> Ruling:
    officer = Operator(mesh.bus, [mesh.key])
    return await officer.order(key, act, await officer.case(name), by="ann", reason=reason)


async def register(mesh: Mesh, registration: Registration, request_id: str = "") -> Verdict:
    headers = {Header.REQUEST_ID: request_id} if request_id else {}
    subject = REGISTER.of(registration.node)
    reply = await mesh.bus.request(subject, encode(registration), timeout=10, headers=headers)
    assert Header.ERROR not in reply.headers, reply.payload
    return decode(reply.payload, Verdict)


async def test_a_quarantined_tool_is_published_as_soon_as_a_person_approves_it(
    mesh: Mesh, key: Ed25519PrivateKey, officer: Operator
) -> None:
    node = await mesh.node(boxed(toolbox("box", "a", description=TODO)))
    presence = await mesh.heard(lambda presence: bool(presence.refused))
    assert [(tool.name, tool.decision) for tool in presence.refused] == [("a", "quarantined")]
    (case,) = await officer.cases()
    assert is_pending(case)
    assert case.pending is not None
    assert case.pending.description == TODO
    ruling = await rule(mesh, key, "approve", "a@acme", "known")
    assert (ruling.decision, ruling.reason) == ("approved", "known")
    await mesh.has("a")
    assert await mesh.call("a", text="x") == "x"
    (case,) = await officer.cases()
    assert (standing(case), case.verdict.reviewer) == ("approved", ruling.by)
    await mesh.agrees(node)


async def test_what_a_person_approved_stays_approved_when_it_is_asked_about_again(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    registration = a_registration(a_tool(description=TODO))
    assert (await register(mesh, registration)).decision == "quarantined"
    await rule(mesh, key, "approve", "weather.forecast")
    for _ in range(2):
        verdict = await register(mesh, registration)
        assert (verdict.decision, "description-placeholder" in rules(verdict.findings)) == ("approved", True)
        assert verdict.reviewer.startswith("ann")


def test_a_person_decides_under_the_strictest_policy_too() -> None:
    registration = a_registration(a_tool(schema={"type": "object", "description": "long " * 20_000}))
    verdict = judge(registration, policy=PRESETS["strict"])
    assert verdict.decision == "quarantined"
    ruling = Ruling(
        node="acme",
        name=verdict.name,
        digest=verdict.digest,
        decision="approved",
        by="ann",
        at=1,
        rules=tuple(finding.rule for finding in verdict.findings),
    )
    ruled = Past(Case(node="acme", name=verdict.name, verdict=verdict, at=0, ruling=ruling))
    assert judge(registration, policy=PRESETS["strict"], past=ruled).decision == "approved"


async def test_a_persons_approval_covers_just_the_text_that_they_saw(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    await register(mesh, a_registration(a_tool(description=TODO)))
    await rule(mesh, key, "approve", "weather.forecast")
    await register(mesh, a_registration(a_tool(description=TODO)))
    assert (await register(mesh, a_registration(a_tool(description="TBD")))).decision == "quarantined"


async def test_a_rejected_text_stays_out_and_the_next_one_waits_for_a_person(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    registration = a_registration(a_tool(description=TODO))
    await register(mesh, registration)
    await rule(mesh, key, "reject", "weather.forecast", "say what it does")
    verdict = await register(mesh, registration)
    assert (verdict.decision, "ruled-against" in rules(verdict.findings)) == ("rejected", True)
    assert "say what it does" in verdict.findings[0].why
    clean = await register(mesh, a_registration(a_tool(description=CLEAN)))
    assert (clean.decision, rules(clean.findings)) == ("quarantined", {"ruled-against-before"})
    await rule(mesh, key, "approve", "weather.forecast")
    assert (await register(mesh, a_registration(a_tool(description=CLEAN)))).decision == "approved"


async def test_back_to_what_was_approved_before_needs_no_person(mesh: Mesh, key: Ed25519PrivateKey) -> None:
    before = a_registration(a_tool())
    assert (await register(mesh, before)).decision == "approved"
    await register(mesh, a_registration(a_tool(description=TODO)))
    await rule(mesh, key, "reject", "weather.forecast")
    assert (await register(mesh, before)).decision == "approved"


async def test_a_revoked_tool_is_offered_nowhere_and_its_node_learns_it(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    await mesh.node(boxed(toolbox("box", "a", "b")))
    await mesh.shows({"box.a", "box.b"})
    await rule(mesh, key, "revoke", "box.a", "it phones home")
    await mesh.until(lambda: mesh.names() == {"box.b"}, timeout=1)
    presence = await mesh.heard(lambda presence: bool(presence.refused))
    assert [(tool.name, tool.decision) for tool in presence.refused] == [("box.a", "rejected")]
    assert "it phones home" in presence.refused[0].why


async def test_a_replica_that_comes_late_does_not_believe_a_revoked_approval(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    node = await mesh.node(boxed(toolbox("box", "a")))
    await mesh.shows({"a"})
    await mesh.leave(node)  # it can no longer withdraw it
    await rule(mesh, key, "revoke", "a")
    await mesh.catalog.stop()
    mesh.catalog = await mesh.replica()
    assert mesh.names() == set()
    assert mesh.catalog.state.node("acme").refused == {"a": "its approval was revoked"}


async def test_after_a_revocation_only_another_text_can_be_approved_and_that_one_holds(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    await register(mesh, a_registration())
    revocation = await rule(mesh, key, "revoke", "weather.forecast")
    assert (await register(mesh, a_registration())).decision == "rejected"
    with pytest.raises(Conflict, match="just this text"):
        await rule(mesh, key, "approve", "weather.forecast")
    mended = a_registration(a_tool(description=f"{CLEAN} Nothing else."))
    assert (await register(mesh, mended)).decision == "quarantined"
    ruling = await rule(mesh, key, "approve", "weather.forecast")
    assert ruling.revoked_before == revocation.revoked_before
    verdict = await register(mesh, mended)
    assert verdict.approval is not None
    assert validity_of(verdict.approval).issued > revocation.revoked_before


async def test_a_person_cannot_approve_what_is_rejected_or_reject_what_is_approved(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    await register(mesh, a_registration(a_tool(description=f"{CLEAN}\u200b")))
    with pytest.raises(Conflict, match="its policy can let it pass"):
        await rule(mesh, key, "approve", "weather.forecast")
    await register(mesh, a_registration())
    with pytest.raises(Conflict, match="revoke"):
        await rule(mesh, key, "reject", "weather.forecast")


async def test_a_person_can_reject_for_good_what_policy_rejects_by_now(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    poisoned = a_registration(a_tool(description=f"{CLEAN}\u200b"))
    await register(mesh, poisoned)
    await rule(mesh, key, "reject", "weather.forecast", "malware")
    assert "ruled-against" in rules((await register(mesh, poisoned)).findings)
    with pytest.raises(Conflict, match="for good"):
        await rule(mesh, key, "reject", "weather.forecast")


async def test_orders_are_taken_from_those_alone_who_may_give_them(mesh: Mesh, connect: Connect) -> None:
    await register(mesh, a_registration(a_tool(description=TODO)))
    eve = Ed25519PrivateKey.generate()
    with pytest.raises(Unauthorized):
        await rule(mesh, eve, "approve", "weather.forecast")
    assert await mesh.bus.last(RULING_STREAM, RULING.of("acme", "weather.forecast")) is None
    await mesh.ungovern()
    await mesh.govern(operators=[eve])
    assert (await rule(mesh, eve, "approve", "weather.forecast")).decision == "approved"


async def send_order(mesh: Mesh, order: str) -> Ruling:
    subject = REVIEW.of("acme", "weather.forecast")
    reply = await mesh.bus.request(subject, encode(ReviewCommand(order=order)), timeout=10)
    if Header.ERROR_CODE in reply.headers:
        raise_error_reply(reply.payload)
    return decode(reply.payload, Ruling)


async def test_an_order_is_carried_out_once_and_not_after_another_one(
    mesh: Mesh, key: Ed25519PrivateKey, officer: Operator
) -> None:
    first = await register(mesh, a_registration(a_tool(description=TODO)))
    fields: dict[str, Any] = {"by": "ann", "reason": "", "after": "", "order_id": "1"}
    order = sign_order(key, "approve", "acme", "weather.forecast", first.digest, **fields)
    given = await send_order(mesh, order)
    assert await send_order(mesh, order) == given
    await register(mesh, a_registration(a_tool(description=TODO)))
    await rule(mesh, key, "revoke", "weather.forecast")
    with pytest.raises(Conflict, match="somebody else ruled"):
        await send_order(mesh, order)
    records = [record for record in await trail(mesh) if record.ruling]
    assert [record.ruling.decision for record in records if record.ruling] == ["approved", "revoked"]


async def trail(mesh: Mesh) -> list[AuditRecord]:
    found: list[AuditRecord] = []

    async def take(stored: Stored) -> None:
        found.append(decode(stored.payload, AuditRecord))

    follower = await mesh.bus.follow(AUDIT_STREAM, take)
    await follower.caught_up(10)
    await follower.close()
    return found


async def test_an_order_on_a_text_that_is_no_longer_the_one_is_refused(
    mesh: Mesh, key: Ed25519PrivateKey, officer: Operator
) -> None:
    await register(mesh, a_registration(a_tool(description=TODO)))
    seen = await officer.case("weather.forecast@acme")
    await register(mesh, a_registration(a_tool(description="TBD")))
    with pytest.raises(Conflict, match="another text meanwhile"):
        await officer.order(key, "approve", seen, by="ann", reason="")


async def test_a_tool_that_governance_never_saw_cannot_be_ruled_on(
    mesh: Mesh, key: Ed25519PrivateKey, officer: Operator
) -> None:
    with pytest.raises(ToolNotFound):
        await officer.case("weather.forecast@acme")
    await register(mesh, a_registration(a_tool(description=TODO)))
    case = await officer.case("weather.forecast")
    with pytest.raises(ToolNotFound):
        await officer.order(key, "approve", replace(case, name="other"), by="ann", reason="")
    await register(mesh, a_registration(a_tool(description=TODO), node="globex"))
    with pytest.raises(Conflict, match=r"weather\.forecast@acme, weather\.forecast@globex"):
        await officer.case("weather.forecast")
    await mesh.ungovern()
    with pytest.raises(NodeUnavailable, match="no governance worker"):
        await officer.order(key, "approve", case, by="ann", reason="")


async def test_a_forged_case_is_not_believed_and_hides_no_change(
    mesh: Mesh, key: Ed25519PrivateKey, officer: Operator
) -> None:
    await register(mesh, a_registration())
    stored = await mesh.bus.last(CASE_STREAM, CASE.of("acme", "weather.forecast"))
    assert stored is not None
    forged = replace(decode(stored.payload, Case), approved=None, approved_digest=None)
    await mesh.bus.store(stored.subject, encode(forged))
    assert await officer.cases() == []
    verdict = await register(mesh, a_registration())
    assert (verdict.decision, rules(verdict.findings)) == ("quarantined", {"widened-unknown"})
    assert is_pending(await officer.case("weather.forecast@acme"))


async def test_a_request_that_is_repeated_gets_the_verdict_that_it_got_first(mesh: Mesh) -> None:
    registration = a_registration()
    first = await register(mesh, registration, "one")
    assert await register(mesh, registration, "one") == first
    assert len(await trail(mesh)) == 1
    assert await register(mesh, registration, "two") != first
    assert len(await trail(mesh)) == 2


async def test_workers_that_are_asked_the_same_at_once_give_one_verdict(mesh: Mesh, connect: Connect) -> None:
    from mcp_federation.governance.app import GovernanceWorker

    second = GovernanceWorker(await connect(), mesh.folder)
    await second.start()
    try:
        asked = [register(mesh, a_registration(), "one") for _ in range(6)]
        verdicts = await asyncio.gather(*asked)
    finally:
        await second.stop()
    assert all(verdict == verdicts[0] for verdict in verdicts)
    assert len({record.request_id for record in await trail(mesh)}) == 1


async def test_a_verdict_whose_worker_died_before_it_was_on_record_is_recorded_when_asked_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcp_federation.governance.trail import Trail

    class Died(BaseException):
        pass

    with monkeypatch.context() as dying:

        async def die(*_: Any) -> None:
            raise ConnectionError("as if the process were gone")

        dying.setattr(Trail, "note_verdict", die)
        subject = REGISTER.of("acme")
        headers = {Header.REQUEST_ID: "one"}
        await mesh.bus.request(subject, encode(a_registration()), timeout=10, headers=headers)
    assert await mesh.bus.last(AUDIT_STREAM, AUDIT.of("acme", "weather.forecast")) is None
    verdict = await register(mesh, a_registration(), "one")
    (record,) = await trail(mesh)
    assert (record.verdict, record.request_id) == (verdict, "one")


async def test_a_described_tool_that_is_quarantined_is_kept_and_published_when_it_is_approved(
    mesh: Mesh, key: Ed25519PrivateKey
) -> None:
    await mesh.node()
    submission = Submission(name="weather", description=TODO)
    reply = await mesh.bus.request(SUBMIT.of("acme"), encode(submission), timeout=10)
    answer = decode(reply.payload, SubmissionAnswer)
    assert answer.published == ()
    assert [verdict.decision for verdict in answer.verdicts] == ["quarantined"]
    await rule(mesh, key, "approve", "weather")
    await mesh.has("weather")
