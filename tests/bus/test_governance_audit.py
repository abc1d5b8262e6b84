"""The audit trail: whole while nobody touches it, and every touch shows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace
from nats.js.errors import APIError

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus, Stored
from mcp_federation.contract.messages import AuditRecord, Registration, decode, encode
from mcp_federation.contract.subjects import AUDIT_STREAM, REGISTER
from mcp_federation.governance.app import GovernanceWorker
from mcp_federation.governance.trail_check import Anchor, Fault, TrailCheck
from mcp_federation.trust.keys import TrustedKey, read_trusted_keys
from mcp_federation.trust.seals import Sealer
from tests.conftest import Connect
from tests.support.nats_server import NatsServer
from tests.support.registrations import a_registration, a_tool

RECORDS = 12


@pytest.fixture
async def trail(connect: Connect, bus: Bus, tmp_path: Path) -> AsyncIterator[list[Stored]]:
    """The records of two workers, which knew of each other's."""
    workers = [GovernanceWorker(await connect(), tmp_path) for _ in range(2)]
    for worker in workers:
        await worker.start()
    for number in range(RECORDS - 4):
        await register(bus, a_registration(a_tool(name=f"tool-{number}")))
    await asyncio.gather(*(register(bus, a_registration(a_tool(name=f"more-{n}"))) for n in range(4)))
    yield await read(bus)
    for worker in workers:
        await worker.stop()


@pytest.fixture
def keys(trail: list[Stored], tmp_path: Path) -> tuple[TrustedKey, ...]:
    return read_trusted_keys([str(tmp_path / "governance.pub")])


async def register(bus: Bus, registration: Registration) -> None:
    await bus.request(REGISTER.of("acme"), encode(registration), timeout=10)


async def read(bus: Bus) -> list[Stored]:
    found: list[Stored] = []

    async def take(stored: Stored) -> None:
        found.append(stored)

    follower = await bus.follow(AUDIT_STREAM, take)
    await follower.caught_up(10)
    await follower.close()
    return found


def checked(trail: list[Stored], keys: tuple[TrustedKey, ...], anchor: Anchor | None = None) -> TrailCheck:
    check = TrailCheck(keys)
    for stored in trail:
        check.add(stored)
    if anchor is not None:
        check.check_anchor(anchor)
    return check


def faults(trail: list[Stored], keys: tuple[TrustedKey, ...], anchor: Anchor | None = None) -> list[Fault]:
    return checked(trail, keys, anchor).faults


def test_a_trail_that_nobody_touched_is_whole(trail: list[Stored], keys: tuple[TrustedKey, ...]) -> None:
    check = checked(trail, keys)
    assert (len(trail), check.faults) == (RECORDS, [])
    assert check.head.sequence == RECORDS
    assert 0 < check.loose < RECORDS


def test_a_trail_of_another_governance_is_not_sound(trail: list[Stored]) -> None:
    other = Sealer(Ed25519PrivateKey.generate())
    assert len(faults(trail, (other.public,))) == RECORDS


def _dropped(trail: list[Stored]) -> list[Stored]:
    return [*trail[:2], *trail[3:]]


def _renumbered(trail: list[Stored]) -> list[Stored]:
    return [Stored(stored.subject, stored.payload, at) for at, stored in enumerate(_dropped(trail), 1)]


def _swapped(trail: list[Stored]) -> list[Stored]:
    first, second = trail[1], trail[2]
    return [
        trail[0],
        Stored(second.subject, second.payload, first.sequence),
        Stored(first.subject, first.payload, second.sequence),
        *trail[3:],
    ]


def _edited(trail: list[Stored]) -> list[Stored]:
    record = decode(trail[2].payload, AuditRecord)
    return [*trail[:2], Stored(trail[2].subject, encode(replace(record, at=1.0)), 3), *trail[3:]]


def _moved(trail: list[Stored]) -> list[Stored]:
    return [*trail[:2], Stored(trail[3].subject, trail[2].payload, 3), *trail[3:]]


def _nonsense(trail: list[Stored]) -> list[Stored]:
    return [*trail[:2], Stored(trail[2].subject, b"nonsense", 3), *trail[3:]]


def _copied(trail: list[Stored]) -> list[Stored]:
    return [*trail, Stored(trail[2].subject, trail[2].payload, len(trail) + 1)]


@pytest.mark.parametrize("touch", [_dropped, _renumbered, _swapped, _edited, _moved, _nonsense, _copied])
def test_whatever_is_done_to_the_trail_shows(
    trail: list[Stored], keys: tuple[TrustedKey, ...], touch: Callable[[list[Stored]], list[Stored]]
) -> None:
    assert faults(touch(trail), keys)


async def test_the_server_takes_nothing_out_of_the_trail(own_nats_server: NatsServer, tmp_path: Path) -> None:
    async with await NatsBus.connect(own_nats_server.url) as bus:
        worker = GovernanceWorker(bus, tmp_path)
        await worker.start()
        await register(bus, a_registration(a_tool(name="a")))
        await worker.stop()
        manager = bus._js
        for attempt in (manager.purge_stream(AUDIT_STREAM.name), manager.delete_msg(AUDIT_STREAM.name, 1)):
            with pytest.raises(APIError):
                await attempt
        assert len(await read(bus)) == 1


def test_a_tail_that_was_cut_off_shows_by_what_was_noted_before(
    trail: list[Stored], keys: tuple[TrustedKey, ...]
) -> None:
    head = checked(trail, keys).head
    assert faults(trail, keys, head) == []
    assert faults(trail[:-1], keys) == []
    assert faults(trail[:-1], keys, head)


def test_records_that_were_aged_out_are_told(trail: list[Stored], keys: tuple[TrustedKey, ...]) -> None:
    assert "records 1 to 3 are missing" in faults(trail[3:], keys)[0].why
