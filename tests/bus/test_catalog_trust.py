"""What a replica does not believe: forged, moved, replayed, expired and revoked approvals, other findings."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.client import FederationClient
from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.messages import Assessment, CatalogEntry, Finding, Ruling, encode
from mcp_federation.contract.subjects import (
    CATALOG,
    CATALOG_STREAM,
    EXECUTE,
    RULING,
    RULING_STREAM,
)
from mcp_federation.errors import ToolNotFound
from mcp_federation.trust.approvals import ApprovalVerifier, Approver
from mcp_federation.trust.policy import PRESETS, Policy
from mcp_federation.trust.seals import Sealer
from tests.conftest import Connect
from tests.support.registrations import a_tool

KEY = Ed25519PrivateKey.generate()
APPROVER, SEALER = Approver(KEY), Sealer(KEY)
NAME = "weather.forecast"
MEDIUM = Finding(rule="a-rule", severity="medium", where="description", why="why", remedy="how")
CHECKED = Assessment(checks=("change", "quality", "security"))


@pytest.fixture
async def bus(connect: Connect) -> Bus:
    bus = await connect()
    await bus.ensure_stream(CATALOG_STREAM)
    await bus.ensure_stream(RULING_STREAM)
    return bus


class Reader:
    """A consumer: a replica, and what it offers."""

    def __init__(self, bus: Bus, imports: Policy | None = None) -> None:
        self.catalog = CatalogReplica(bus, ApprovalVerifier([SEALER.public]), imports)
        self._client = FederationClient(bus, self.catalog)
        self._marks = 0
        self._bus = bus

    async def offers(self) -> set[str]:
        """The digests that it offers, once it has read all that was stored until now."""
        self._marks += 1
        mark = f"mark-{id(self)}-{self._marks}"
        await store(self._bus, an_entry(name=mark))
        assert await self.catalog.wait_until(lambda: self.catalog.state.get("acme", mark) is not None, 5)
        tool = self.catalog.state.get("acme", NAME)
        if tool is None:
            with pytest.raises(ToolNotFound):
                await self._client.execute(f"{NAME}@acme", timeout=1)
        return {tool.entry.digest} if tool else set()

    def refusal(self) -> str:
        return self.catalog.state.node("acme").refused.get(NAME, "")


@pytest.fixture
async def reader(bus: Bus) -> AsyncIterator[Reader]:
    reader = Reader(bus)
    await reader.catalog.start()
    yield reader
    await reader.catalog.stop()


def an_entry(
    description: str = "Tells the weather.",
    *,
    name: str = NAME,
    node: str = "acme",
    approver: Approver = APPROVER,
    assessment: Assessment | None = CHECKED,
    **fields: Any,
) -> CatalogEntry:
    tool = canonical_tool(a_tool(name=name, description=description))
    digest = tool_digest(tool)
    told = None if assessment is None else encode(assessment)
    entry = CatalogEntry(
        node=node,
        tool=tool,
        digest=digest,
        approval=approver.approve(node, name, digest, told),
        assessment=None if told is None else msgspec.Raw(told),
        execute_subject=EXECUTE.of(node, name),
    )
    return msgspec.structs.replace(entry, **fields)


async def store(bus: Bus, entry: CatalogEntry, subject: str = "") -> None:
    await bus.store(subject or CATALOG.of(entry.node, entry.tool.name), encode(entry))


async def revoke(bus: Bus, before: float | None = None, *, sealer: Sealer = SEALER, **fields: Any) -> None:
    ruling = Ruling(
        node="acme",
        name=NAME,
        digest=an_entry().digest,
        decision="revoked",
        by="ann",
        at=time.time(),
        revoked_before=time.time() if before is None else before,
    )
    await bus.store(RULING.of("acme", NAME), encode(sealer.seal(msgspec.structs.replace(ruling, **fields))))


async def test_an_approved_tool_is_offered(bus: Bus, reader: Reader) -> None:
    entry = an_entry()
    await store(bus, entry)
    assert await reader.offers() == {entry.digest}


async def test_a_forged_approval_is_refused(bus: Bus, reader: Reader) -> None:
    for forged in (
        an_entry(approver=Approver(Ed25519PrivateKey.generate())),
        an_entry(approval=""),
        an_entry(approval=SEALER.seal(Ruling(**_ruling())).seal),
    ):
        await store(bus, forged)
        assert await reader.offers() == set()
        assert reader.refusal()


def _ruling() -> dict[str, Any]:
    return {
        "node": "acme",
        "name": NAME,
        "digest": an_entry().digest,
        "decision": "approved",
        "by": "",
        "at": 0.0,
    }


async def test_an_approval_that_was_moved_to_another_tool_node_or_text_is_refused(
    bus: Bus, reader: Reader
) -> None:
    good = an_entry()
    moved = msgspec.structs.replace(an_entry(node="globex"), node="acme")
    other_text = an_entry("Tells the weather, and your secrets.", approval=good.approval)
    same_digest = msgspec.structs.replace(other_text, digest=good.digest)
    renamed = an_entry(approval=an_entry(name="other").approval)
    for entry in (moved, other_text, same_digest, renamed):
        await store(bus, entry)
        assert await reader.offers() == set()


async def test_a_node_cannot_publish_under_anothers_subject(bus: Bus, reader: Reader) -> None:
    await store(bus, an_entry(node="globex"), CATALOG.of("acme", NAME))
    assert await reader.offers() == set()
    assert reader.catalog.state.get("globex", NAME) is None


async def test_an_expired_approval_is_refused_and_one_that_expires_is_no_longer_offered(
    bus: Bus, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(bus, an_entry(approver=Approver(KEY, timedelta(seconds=-3600))))
    assert await reader.offers() == set()
    assert reader.refusal() == "the approval has expired"
    await store(bus, an_entry())
    await reader.offers()
    tool = reader.catalog.state.get("acme", NAME)
    assert tool is not None
    monkeypatch.setattr("mcp_federation.catalog.state.time.time", lambda: tool.expires + 1)
    assert list(reader.catalog.state.tools()) == []


async def test_an_older_text_that_is_brought_back_is_refused(
    bus: Bus, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        yesterday = time.time() - 86400
        earlier.setattr(time, "time", lambda: yesterday)
        old = an_entry("Tells the weather, with a hole in it.")
    new = an_entry()
    await store(bus, new)
    assert await reader.offers() == {new.digest}
    await store(bus, old)
    assert await reader.offers() == set()
    assert reader.refusal() == "a later text of the tool was approved since"
    renewed = an_entry("Tells the weather, with a hole in it.")
    await store(bus, renewed)
    assert await reader.offers() == {renewed.digest}


async def test_a_revoked_approval_is_refused_now_and_when_it_is_published_again(
    bus: Bus, reader: Reader
) -> None:
    entry = an_entry()
    await store(bus, entry)
    assert await reader.offers()
    await revoke(bus)
    assert await reader.catalog.wait_until(lambda: reader.catalog.state.get("acme", NAME) is None, 1)
    await store(bus, entry)
    assert await reader.offers() == set()
    assert reader.refusal() == "its approval was revoked"
    later = an_entry(assessment=None)
    await store(bus, later)
    assert await reader.offers() == {later.digest}


async def test_a_revocation_stays_though_an_older_ruling_is_brought_back(bus: Bus, reader: Reader) -> None:
    entry = an_entry()
    await store(bus, entry)
    assert await reader.offers()
    await revoke(bus)
    assert await reader.catalog.wait_until(lambda: reader.catalog.state.get("acme", NAME) is None, 1)
    await revoke(bus, before=0.0, decision="approved")
    assert await reader.offers() == set()


async def test_a_forged_revocation_takes_nothing_away(bus: Bus, reader: Reader) -> None:
    entry = an_entry()
    await store(bus, entry)
    assert await reader.offers()
    with capture_logs():
        await revoke(bus, sealer=Sealer(Ed25519PrivateKey.generate()))
        await bus.store(RULING.of("acme", NAME), b"{}")
        other = SEALER.seal(Ruling(**{**_ruling(), "node": "globex", "revoked_before": time.time()}))
        await bus.store(RULING.of("acme", NAME), encode(other))
        assert await reader.offers() == {entry.digest}


async def test_findings_that_were_changed_or_left_out_are_refused(bus: Bus, reader: Reader) -> None:
    found = an_entry(assessment=Assessment(findings=(MEDIUM,), checks=CHECKED.checks))
    for told in (None, encode(CHECKED), encode(Assessment(findings=(MEDIUM,)))):
        hidden = msgspec.structs.replace(found, assessment=None if told is None else msgspec.Raw(told))
        await store(bus, hidden)
        assert await reader.offers() == set()
        assert "findings" in reader.refusal()
    await store(bus, found)
    assert await reader.offers() == {found.digest}


@pytest.mark.parametrize(
    ("assessment", "policy", "offered"),
    [
        (CHECKED, "standard", True),
        (CHECKED, "strict", True),
        (None, "standard", True),
        (None, "strict", False),
        (Assessment(findings=(MEDIUM,), checks=CHECKED.checks), "open", True),
        (Assessment(findings=(MEDIUM,), checks=CHECKED.checks), "standard", False),
        (Assessment(findings=(MEDIUM,), checks=CHECKED.checks, reviewer="ann"), "standard", True),
        (Assessment(findings=(MEDIUM,), checks=CHECKED.checks, reviewer="ann"), "strict", False),
    ],
)
async def test_a_consumer_with_a_stricter_policy_is_not_offered_what_governance_let_pass(
    bus: Bus, assessment: Assessment | None, policy: str, offered: bool
) -> None:
    reader = Reader(bus, PRESETS[policy])
    await store(bus, an_entry(assessment=assessment))
    await reader.catalog.start()
    try:
        shown = reader.catalog.state.get("acme", NAME) is not None
        assert shown is offered
        assert offered or "import policy" in reader.refusal()
    finally:
        await reader.catalog.stop()


async def test_an_import_policy_may_deny_an_organisation(bus: Bus) -> None:
    reader = Reader(bus, msgspec.structs.replace(PRESETS["open"], deny=("*@acme",)))
    await store(bus, an_entry())
    await reader.catalog.start()
    assert reader.catalog.state.get("acme", NAME) is None
    await reader.catalog.stop()
