"""Look-alikes that reach two workers at once: the one whose claim stands first is approved."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mcp_federation.bus.protocol import Bus, Delivery
from mcp_federation.contract.messages import Claim, ClaimBatch, Registration, Tool, Verdict, decode, encode
from mcp_federation.contract.subjects import CLAIM, GOVERNANCE_STREAMS, REGISTER
from mcp_federation.errors import BusUnavailable
from mcp_federation.governance import claims as governance_claims
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.claims import Claims
from mcp_federation.governance.trail import Trail
from mcp_federation.governance.worker import RegistrationDesk
from mcp_federation.trust.approvals import Approver
from mcp_federation.trust.keys import load_or_create_key
from mcp_federation.trust.policy import PRESETS
from mcp_federation.trust.seals import Sealer
from tests.conftest import Connect
from tests.support.registrations import CLEAN, a_registration, a_tool, rules
from tests.support.waiting import eventually

OTHER = "Tells the time of a city, and whether the shops there are open now."


@pytest.fixture
async def desks(connect: Connect, tmp_path: Path) -> AsyncIterator[list[RegistrationDesk]]:
    """Two workers' desks, each on a bus of its own; nothing is ever published."""
    key = load_or_create_key(tmp_path / "key")
    sealer = Sealer(key)
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(2):
            bus = await connect()
            for stream in GOVERNANCE_STREAMS:
                await bus.ensure_stream(stream)
            claims = Claims(bus, sealer)
            stack.push_async_callback(claims.stop)
            await claims.start(5)
            trail = Trail(bus, sealer)
            found.append(
                RegistrationDesk(
                    bus, Approver(key), sealer, trail, PRESETS["standard"], CatalogView(), claims
                )
            )
        yield found


async def ask(desk: RegistrationDesk, registration: Registration) -> Verdict:
    delivery = Delivery(REGISTER.of(registration.node), encode(registration))
    return decode((await desk.answer(delivery)).payload, Verdict)


def pair(number: int, rule: str) -> tuple[Registration, Registration]:
    """Two tools of two nodes that cannot both be approved."""
    first: Tool = a_tool(f"city{'abcdefgh'[number]}.look")
    other = {
        "name-taken": a_tool(first.name, OTHER),
        "look-alike-name": a_tool(first.name.replace("look", "l0ok")),
    }[rule]
    return a_registration(first), a_registration(other, node="globex")


@pytest.mark.parametrize("rule", ["name-taken", "look-alike-name"])
async def test_of_two_that_come_at_once_to_two_workers_just_one_is_approved(
    desks: list[RegistrationDesk], rule: str
) -> None:
    pairs = [pair(number, rule) for number in range(8)]
    verdicts = await asyncio.gather(
        *(
            ask(desks[(number + second) % 2], registration)
            for number, both in enumerate(pairs)
            for second, registration in enumerate(both)
        )
    )
    for first, other in zip(verdicts[::2], verdicts[1::2], strict=True):
        assert sorted([first.decision, other.decision]) == ["approved", "quarantined"]
        held = other if first.decision == "approved" else first
        assert (rules(held.findings), held.approval) == ({rule}, None)
        assert held.checks == first.checks


async def test_the_same_tool_of_two_nodes_is_approved_for_both(desks: list[RegistrationDesk]) -> None:
    verdicts = await asyncio.gather(
        *(ask(desk, a_registration(node=node)) for desk, node in zip(desks, ("acme", "globex"), strict=True))
    )
    assert [verdict.decision for verdict in verdicts] == ["approved", "approved"]


async def test_what_is_rejected_claims_nothing(desks: list[RegistrationDesk]) -> None:
    poisoned = a_registration(a_tool(description=f"{CLEAN}\u202e"), node="globex")
    assert (await ask(desks[0], poisoned)).decision == "rejected"
    assert (await ask(desks[1], a_registration(a_tool(description=OTHER)))).decision == "approved"


async def test_a_claim_that_came_to_nothing_counts_no_longer_after_a_while(
    desks: list[RegistrationDesk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governance_claims, "LIFE", 0.05)
    first, other = pair(0, "look-alike-name")
    assert (await ask(desks[0], first)).decision == "approved"

    async def is_approved() -> bool:
        return (await ask(desks[1], other)).decision == "approved"

    await eventually(is_approved)


async def test_a_forged_claim_is_nobodys(desks: list[RegistrationDesk], bus: Bus) -> None:
    first, other = pair(0, "look-alike-name")
    claim = Claim(id="x", node=first.node, name=first.tool.name, description=CLEAN)
    batch = ClaimBatch(claims=(claim,))
    with capture_logs() as logs:
        await bus.store(CLAIM.of("forger"), encode(batch))
        assert (await ask(desks[0], other)).decision == "approved"
    assert "message_refused" in [entry["event"] for entry in logs]


async def test_nothing_is_approved_while_claims_cannot_be_read(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governance_claims, "READ_TIMEOUT", 0.1)
    claims = Claims(await connect(), Sealer(load_or_create_key(tmp_path / "key")))  # it was not started
    with pytest.raises(BusUnavailable, match="register again later"):
        await claims.claim(a_registration())
