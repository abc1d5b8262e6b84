"""Governance workers on a real bus: verdicts are signed where they approve, and kept before given."""

import asyncio
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus, Delivery, Stored
from mcp_federation.contract.messages import (
    AuditRecord,
    CatalogEntry,
    Message,
    Registration,
    Verdict,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.subjects import (
    AUDIT,
    AUDIT_STREAM,
    CASE_STREAM,
    CATALOG_STREAM,
    CLAIM_STREAM,
    REGISTER,
    SUBMISSION_STREAM,
    Header,
)
from mcp_federation.errors import BusUnavailable, InvalidRequest, NodeUnavailable
from mcp_federation.governance import helpers
from mcp_federation.governance.app import GovernanceWorker, _help, run
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.claims import Claims
from mcp_federation.governance.trail import Trail
from mcp_federation.governance.worker import RegistrationDesk
from mcp_federation.settings import load_settings
from mcp_federation.trust.approvals import ApprovalVerifier, Approver
from mcp_federation.trust.keys import load_or_create_key, read_trusted_keys
from mcp_federation.trust.policy import PRESETS
from mcp_federation.trust.seals import Sealer
from tests.conftest import Connect
from tests.support.nats_server import NatsServer
from tests.support.registrations import CLEAN, a_registration, a_tool, rules, unjudgeable
from tests.support.waiting import eventually

Govern = Callable[[], Awaitable[GovernanceWorker]]


@pytest.fixture
async def govern(connect: Connect, tmp_path: Path) -> AsyncIterator[Govern]:
    """Starts workers that share a state directory."""
    workers: list[GovernanceWorker] = []

    async def start() -> GovernanceWorker:
        worker = GovernanceWorker(await connect(), tmp_path)
        await worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        await worker.stop()


async def send(bus: Bus, message: Message | bytes, node: str = "acme") -> Delivery:
    payload = message if isinstance(message, bytes) else encode(message)
    return await bus.request(REGISTER.of(node), payload, timeout=10)


async def register(bus: Bus, registration: Registration) -> Verdict:
    delivery = await send(bus, registration, registration.node)
    assert Header.ERROR not in delivery.headers, delivery.payload
    return decode(delivery.payload, Verdict)


async def audit(bus: Bus, expected: int) -> list[Verdict]:
    """The first verdicts of the trail, once that many are there."""
    kept: list[Verdict] = []
    enough = asyncio.Event()

    async def collect(stored: Stored) -> None:
        verdict = decode(stored.payload, AuditRecord).verdict
        assert verdict is not None
        kept.append(verdict)
        if len(kept) >= expected:
            enough.set()

    follower = await bus.follow(AUDIT_STREAM, collect)
    async with asyncio.timeout(10):
        await enough.wait()
    await follower.close()
    return kept


async def test_an_approval_holds_with_the_key_in_the_public_file(
    govern: Govern, bus: Bus, tmp_path: Path
) -> None:
    await govern()
    registration = a_registration()
    verdict = await register(bus, registration)
    assert (verdict.decision, verdict.findings) == ("approved", ())
    assert verdict.approval is not None
    entry = CatalogEntry(
        node="acme",
        tool=registration.tool,
        digest=registration.digest,
        approval=verdict.approval,
        assessment=verdict.assessment,
    )
    verifier = ApprovalVerifier(read_trusted_keys([str(tmp_path / "governance.pub")]))
    assert verifier.verify(entry).expires > time.time()


async def test_the_private_key_is_for_its_owner_only(govern: Govern, tmp_path: Path) -> None:
    await govern()
    assert stat.S_IMODE((tmp_path / "governance.key").stat().st_mode) == 0o600
    assert len((tmp_path / "governance.pub").read_text().splitlines()) == 1


async def test_a_zero_width_space_in_a_description_is_refused_with_a_finding(
    govern: Govern, bus: Bus
) -> None:
    await govern()
    verdict = await register(bus, a_registration(a_tool(description=f"{CLEAN[:12]}\u200b{CLEAN[12:]}")))
    assert (verdict.decision, verdict.approval) == ("rejected", None)
    assert [(finding.rule, finding.where) for finding in verdict.findings] == [
        ("hidden-character", "description[12]")
    ]


async def test_a_digest_of_another_text_is_never_signed(govern: Govern, bus: Bus) -> None:
    await govern()
    verdict = await register(bus, unjudgeable(a_tool()))
    assert (rules(verdict.findings), verdict.approval) == ({"digest-mismatch"}, None)


async def test_every_verdict_is_in_the_audit_trail_as_it_was_given(govern: Govern, bus: Bus) -> None:
    await govern()
    tools = [a_tool(), a_tool(description="TODO"), a_tool(name="größe €", description="a\u202eb")]
    given = [await register(bus, a_registration(tool)) for tool in tools]
    assert [verdict.decision for verdict in given] == ["approved", "quarantined", "rejected"]
    assert await audit(bus, 3) == given
    kept = await bus.last(AUDIT_STREAM, AUDIT.of("acme", "größe €"))
    assert kept is not None
    assert decode(kept.payload, AuditRecord).verdict == given[2]


async def test_a_node_registers_for_itself_only(govern: Govern, bus: Bus) -> None:
    await govern()
    with capture_logs() as logs, pytest.raises(InvalidRequest, match="of its own only"):
        raise_error_reply((await send(bus, a_registration(node="other"))).payload)
    assert "foreign_registration" in [entry["event"] for entry in logs]
    assert await bus.last(AUDIT_STREAM, AUDIT.of("other", "weather.forecast")) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"type":"presence"}',
        b'{"type":"registration","node":"acme"}',
        encode(a_registration()).replace(b"sha256:", b"md5:"),
        encode(a_registration()).replace(b'"acme"', b'"ACME"'),
        encode(unjudgeable(a_tool(schema=b'"\\ud800"'))),
        encode(unjudgeable(a_tool(name="ü" * 200))),
    ],
)
async def test_a_bad_message_is_answered_with_an_error_and_costs_nothing(
    govern: Govern, bus: Bus, payload: bytes
) -> None:
    await govern()
    delivery = await send(bus, payload)
    assert delivery.headers[Header.ERROR_CODE] == "400"
    with pytest.raises(InvalidRequest):
        raise_error_reply(delivery.payload)
    assert (await register(bus, a_registration())).decision == "approved"


async def test_workers_share_the_work_and_the_key(govern: Govern, bus: Bus, tmp_path: Path) -> None:
    await govern()
    await govern()
    verdicts = await asyncio.gather(
        *(register(bus, a_registration(a_tool(name=f"tool-{number}"))) for number in range(40))
    )
    approvals = [verdict.approval for verdict in verdicts]
    verifier = ApprovalVerifier(read_trusted_keys([str(tmp_path / "governance.pub")]))
    for number, approval in enumerate(approvals):
        registration = a_registration(a_tool(name=f"tool-{number}"))
        assert approval is not None
        verifier.verify(
            CatalogEntry(
                node="acme",
                tool=registration.tool,
                digest=registration.digest,
                approval=approval,
                assessment=verdicts[number].assessment,
            )
        )
    assert len(await audit(bus, 40)) == 40


async def test_a_large_registration_is_judged_as_well(govern: Govern, bus: Bus) -> None:
    await govern()
    schema = {"type": "object", "description": "long " * 20_000}
    verdict = await register(bus, a_registration(a_tool(schema=schema)))
    assert verdict.decision == "approved"
    assert "schema-large" in rules(verdict.findings)


async def test_a_verdict_that_cannot_be_kept_is_not_given_out(tmp_path: Path) -> None:
    async with MemoryBus() as bus:  # without the audit stream
        await bus.ensure_stream(CASE_STREAM)
        await bus.ensure_stream(CLAIM_STREAM)
        key = load_or_create_key(tmp_path / "key")
        sealer = Sealer(key)
        claims = Claims(bus, sealer)
        await claims.start(5)
        desk = RegistrationDesk(
            bus, Approver(key), sealer, Trail(bus, sealer), PRESETS["standard"], CatalogView(), claims
        )
        await bus.respond(REGISTER.every(), desk.answer)
        with capture_logs() as logs, pytest.raises(BusUnavailable):
            raise_error_reply((await send(bus, a_registration())).payload)
        await claims.stop()
    assert [entry["event"] for entry in logs] == ["record_not_kept"]


async def test_the_log_holds_no_character_that_a_terminal_would_obey(govern: Govern, bus: Bus) -> None:
    await govern()
    with capture_logs() as logs:
        await register(bus, a_registration(a_tool(name="clear\x1b[2J")))
    (entry,) = (entry for entry in logs if entry["event"] == "verdict_given")
    assert all(str(value).isprintable() for value in entry.values())


async def test_the_streams_that_registration_needs_are_there_once_it_started(
    govern: Govern, bus: Bus
) -> None:
    await govern()
    for stream in (CATALOG_STREAM, SUBMISSION_STREAM, AUDIT_STREAM):
        assert await bus.last(stream, stream.template.of("acme", "none")) is None


async def test_a_stopped_worker_answers_no_more_and_stops_once(govern: Govern, bus: Bus) -> None:
    first = await govern()
    second = await govern()
    await first.stop()
    await first.stop()
    assert (await register(bus, a_registration())).decision == "approved"
    await second.stop()


async def test_a_worker_that_cannot_use_its_state_directory_says_so(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match=r"governance\.key"):
        await GovernanceWorker(await connect(), tmp_path / "file").start()


async def test_a_worker_that_cannot_publish_its_key_does_not_stay(connect: Connect, tmp_path: Path) -> None:
    bus = await connect()
    (tmp_path / "taken" / "in the way").mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="taken"):
        await GovernanceWorker(bus, tmp_path, also_public_at=tmp_path / "taken").start()
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["in the way"]
    with pytest.raises(NodeUnavailable):
        await send(bus, a_registration())


@pytest.mark.bus
async def test_a_node_with_many_registrations_does_not_delay_another_ones(
    own_nats_server: NatsServer, tmp_path: Path
) -> None:
    answered: list[str] = []

    async def ask(node: str, number: int) -> None:
        await register(bus, a_registration(a_tool(name=f"tool-{number}"), node=node))
        answered.append(node)

    async with (
        await NatsBus.connect(own_nats_server.url) as bus,
        await NatsBus.connect(own_nats_server.url) as governance,
    ):
        worker = GovernanceWorker(governance, tmp_path)
        await worker.start()
        await asyncio.gather(*(ask("bulk", number) for number in range(100)), ask("single", 0))
        await worker.stop()
    assert answered.index("single") < 20


@pytest.mark.bus
async def test_helpers_work_while_there_is_much_to_do_and_go_when_there_is_nothing(
    own_nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "IDLE_LOOKS", 1)
    waiting = 99
    settings = load_settings(nats_url=own_nats_server.url, state_dir=tmp_path, log_level="error")
    found = helpers.Helpers(settings, _help, 1, lambda: waiting, look_every=0.02)
    found.start()
    async with await NatsBus.connect(own_nats_server.url) as bus:
        await eventually((tmp_path / "governance.pub").exists, 30)
        assert found.running == 1
        assert (await register(bus, a_registration())).decision == "approved"
        waiting = 0
        await eventually(lambda: found.running == 0, 30)
        with pytest.raises(NodeUnavailable):
            await send(bus, a_registration())
    await found.stop()


@pytest.mark.bus
async def test_the_process_runs_until_it_is_stopped(own_nats_server: NatsServer, tmp_path: Path) -> None:
    public = tmp_path / "shared" / "trusted.pub"
    settings = load_settings(
        nats_url=own_nats_server.url,
        state_dir=tmp_path,
        public_key=public,
        approval_days=1,
        trusted_keys=(str(public),),  # as where one environment is for all processes
    )
    stop = asyncio.Event()
    process = asyncio.create_task(run(settings, stop))
    await eventually(public.exists)
    assert public.read_text() == (tmp_path / "governance.pub").read_text()
    stop.set()
    async with asyncio.timeout(10):
        await process
