"""What leaves of a record, and how records leave."""

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.memory_broker import MemoryBroker
from mcp_federation.bus.protocol import Headers, Stored
from mcp_federation.contract.messages import Record, RecordBatch, StatisticsBatch, decode, encode
from mcp_federation.contract.subjects import METRICS, METRICS_STREAM
from mcp_federation.errors import (
    CODES,
    BusUnavailable,
    Cancelled,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    ToolFailed,
)
from mcp_federation.privacy.accountant import Accountant
from mcp_federation.privacy.publisher import MAX_BATCH, RecordPublisher
from mcp_federation.privacy.records import anonymous, observation
from mcp_federation.privacy.sharing import SharingPolicy

LONG = 3600.0
RECORDS = SharingPolicy(sharing="records")


class WatchedBus(MemoryBus):
    """A memory bus that says when a store was tried, and how that went."""

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        super().__init__(broker)
        self.outcomes: asyncio.Queue[str] = asyncio.Queue()
        self.hold = asyncio.Event()
        self.hold.set()
        self.refuse_next = False

    async def store(self, subject: str, payload: bytes, *, expect: int | None = None) -> int:
        await self.hold.wait()
        try:
            if self.refuse_next:
                self.refuse_next = False
                raise PayloadTooLarge("too large for the stream")
            sequence = await super().store(subject, payload, expect=expect)
        except Exception as error:
            self.outcomes.put_nowait(type(error).__name__)
            raise
        self.outcomes.put_nowait("stored")
        return sequence

    async def publish(self, subject: str, payload: bytes, headers: Headers | None = None) -> None:
        raise AssertionError("records go where a stream acknowledges them")

    async def outcome(self) -> str:
        async with asyncio.timeout(5):
            return await self.outcomes.get()

    def batches(self) -> list[tuple[Record, ...]]:
        return [decode(stored.payload, RecordBatch).records for stored in self.kept()]

    def kept(self) -> list[Stored]:
        return self.broker.streams[METRICS_STREAM.name].messages


def a_record(tool: str = "add", **changes: Any) -> Record:
    fields = {"node": "acme", "tool": tool, "success": True, "latency_ms": 12.0, **changes}
    return Record(**fields)


@pytest.fixture
async def bus() -> WatchedBus:
    bus = WatchedBus()
    await bus.ensure_stream(METRICS_STREAM)
    return bus


@pytest.mark.parametrize(
    ("latency", "leaves"), [(85, 85), (0.0432, 0), (0.16, 0.2), (12.3456, 12.3), (1234.5678, 1230), (0, 0)]
)
def test_a_latency_leaves_with_three_digits_and_no_finer_than_a_tenth_of_a_millisecond(
    latency: float, leaves: float
) -> None:
    assert anonymous(a_record(latency_ms=latency)).latency_ms == leaves


def test_a_cost_leaves_with_three_digits() -> None:
    assert anonymous(a_record(cost=0.0003)).cost == 0.0003
    assert anonymous(a_record(cost=0.00031725)).cost == 0.000317


def test_an_error_kind_that_is_no_known_code_leaves_as_other() -> None:
    def leaves(kind: str | None, success: bool = False) -> str | None:
        return anonymous(a_record(success=success, error_kind=kind)).error_kind

    assert leaves("deadline_exceeded") == "deadline_exceeded"
    assert leaves("no file /home/alice/taxes.pdf") == "other"
    assert leaves("user_alice") == "other"
    assert leaves(None) == "other"
    assert leaves("tool_failed", success=True) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_ms": float("nan")},
        {"latency_ms": float("inf")},
        {"latency_ms": -1},
        {"cost": -0.1},
        {"cost": float("nan")},
        {"node": "No Node"},
        {"tool": ""},
        {"tool": "é" * 200},
        {"tool": "\ud800"},
    ],
)
def test_a_record_that_no_reader_could_parse_does_not_leave(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        anonymous(a_record(**wrong))


@given(
    st.builds(
        Record,
        node=st.just("acme"),
        tool=st.text(min_size=1, max_size=60, alphabet=st.characters(exclude_categories=["Cs"])),
        success=st.booleans(),
        latency_ms=st.floats(min_value=0, max_value=1e300),
        cost=st.floats(min_value=0, max_value=1e300),
        error_kind=st.none() | st.text(max_size=80),
    )
)
def test_what_leaves_is_always_a_readable_record_of_known_kinds(record: Record) -> None:
    leaving = anonymous(record)
    assert decode(encode(leaving), Record) == leaving == anonymous(leaving)
    assert leaving.error_kind in CODES | {None, "other"}
    assert leaving.latency_ms == pytest.approx(record.latency_ms, rel=0.006, abs=0.051)


async def test_a_full_batch_leaves_at_once(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, max_batch=3, interval=LONG)
    await publisher.start()
    for _ in range(3):
        publisher.add(a_record())
    assert await bus.outcome() == "stored"
    assert bus.kept()[0].subject == METRICS.of("acme")
    assert bus.batches() == [(a_record(),) * 3]
    await publisher.stop()
    assert (publisher.published, publisher.pending, publisher.dropped) == (3, 0, 0)


async def test_a_few_records_leave_when_the_interval_is_over(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, interval=0.01)
    await publisher.start()
    publisher.add(a_record())
    assert await bus.outcome() == "stored"
    await publisher.stop()
    assert bus.batches() == [(a_record(),)]


async def test_nothing_is_sent_while_nothing_happened(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, interval=LONG)
    await publisher.start()
    await publisher.stop()
    assert bus.kept() == []


async def test_a_batch_hides_the_order_of_its_records(bus: WatchedBus) -> None:
    added = [a_record(f"tool{number}") for number in range(200)]
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, interval=LONG)
    await publisher.start()
    for record in added:
        publisher.add(record)
    await publisher.stop()
    [left] = bus.batches()
    assert Counter(left) == Counter(added)
    assert list(left) != added


async def test_stopping_sends_what_is_left_and_stopping_twice_is_fine(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, max_batch=2, interval=LONG)
    for number in range(5):
        publisher.add(a_record(f"tool{number}"))
    await publisher.start()
    await publisher.start()
    await publisher.stop()
    await publisher.stop()
    assert sorted(len(batch) for batch in bus.batches()) == [1, 2, 2]


async def test_records_wait_while_the_bus_is_away_and_that_is_logged_once() -> None:
    bus = WatchedBus()
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, max_batch=2, interval=0.01)
    with capture_logs() as logs:
        await publisher.start()
        publisher.add(a_record("one"))
        publisher.add(a_record("two"))
        assert await bus.outcome() == "BusUnavailable"
        publisher.add(a_record("three"))
        assert await bus.outcome() == "BusUnavailable"
        await bus.ensure_stream(METRICS_STREAM)
        while await bus.outcome() != "stored":
            pass
        await publisher.stop()
    assert [log["event"] for log in logs] == ["records_kept"]
    assert sorted(record.tool for batch in bus.batches() for record in batch) == ["one", "three", "two"]


async def test_beyond_its_bound_the_oldest_records_go_and_that_is_logged_once_an_interruption() -> None:
    bus = WatchedBus()
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, interval=0.01, max_pending=3)
    with capture_logs() as logs:
        for number in range(5):
            publisher.add(a_record(f"tool{number}"))
        assert (publisher.pending, publisher.dropped) == (3, 2)
        await bus.ensure_stream(METRICS_STREAM)
        await publisher.start()
        assert await bus.outcome() == "stored"
        for number in range(4):
            publisher.add(a_record(f"more{number}"))
        await publisher.stop()
    assert [log["event"] for log in logs] == ["records_dropped"] * 2
    assert sorted(record.tool for record in bus.batches()[0]) == ["tool2", "tool3", "tool4"]
    assert sorted(record.tool for record in bus.batches()[1]) == ["more1", "more2", "more3"]


async def test_stopping_gives_up_at_its_deadline_and_says_what_was_lost(bus: WatchedBus) -> None:
    bus.hold.clear()
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, interval=LONG)
    await publisher.start()
    publisher.add(a_record())
    with capture_logs() as logs:
        await publisher.stop(deadline=0.01)
    assert [(log["event"], log["records"]) for log in logs] == [("records_lost", 1)]
    assert (publisher.pending, publisher.dropped) == (0, 1)


async def test_a_batch_that_the_bus_will_never_take_does_not_hold_up_the_next(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, max_batch=1, interval=LONG)
    bus.refuse_next = True
    publisher.add(a_record())
    publisher.add(a_record())
    await publisher.start()
    await publisher.stop()
    assert (publisher.published, publisher.dropped) == (1, 1)


async def test_a_record_that_is_none_costs_only_itself(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, interval=LONG)
    publisher.add(a_record(latency_ms=float("nan")))
    publisher.add(a_record())
    await publisher.start()
    await publisher.stop()
    assert bus.batches() == [(a_record(),)]
    assert publisher.dropped == 1


@pytest.mark.parametrize("max_payload", [700, 2048, 10_000])
async def test_no_message_exceeds_what_the_bus_takes(max_payload: int) -> None:
    bus = WatchedBus(MemoryBroker(max_payload))
    await bus.ensure_stream(METRICS_STREAM)
    publisher = RecordPublisher(bus, "acme", policy=RECORDS, interval=LONG)
    for number in range(300):
        publisher.add(a_record(f"{number}" * (number % 60 + 1), success=False, error_kind="tool_failed"))
    await publisher.start()
    await publisher.stop()
    assert publisher.published == sum(map(len, bus.batches())) == 300
    assert max(len(stored.payload) for stored in bus.kept()) <= max_payload


def test_a_batch_cannot_be_larger_than_the_contract_allows(bus: WatchedBus) -> None:
    for size in (0, MAX_BATCH + 1):
        with pytest.raises(ValueError, match="batch"):
            RecordPublisher(bus, "acme", policy=RECORDS, max_batch=size)


async def test_an_organisation_that_shares_statistics_lets_no_record_out(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=SharingPolicy(k=10), interval=LONG)
    for number in range(25):
        publisher.add(a_record("often", success=number % 2 == 0, latency_ms=number))
    for _ in range(9):
        publisher.add(a_record("seldom"))
    await publisher.start()
    await publisher.stop()
    [kept] = bus.kept()
    [released] = decode(kept.payload, StatisticsBatch).statistics
    assert (released.node, released.tool, released.tally.count) == ("acme", "often", 25)
    assert b"seldom" not in kept.payload


async def test_an_organisation_that_shares_nothing_lets_nothing_out(bus: WatchedBus) -> None:
    publisher = RecordPublisher(bus, "acme", policy=SharingPolicy(sharing="nothing"), interval=LONG)
    for _ in range(1000):
        publisher.add(a_record())
    await publisher.start()
    await publisher.stop()
    assert bus.kept() == []


async def test_statistics_wait_while_the_bus_is_away_and_leave_once() -> None:
    bus = WatchedBus()
    publisher = RecordPublisher(bus, "acme", policy=SharingPolicy(k=10), interval=0.01)
    for _ in range(10):
        publisher.add(a_record())
    await publisher.start()
    assert await bus.outcome() == "BusUnavailable"
    await bus.ensure_stream(METRICS_STREAM)
    while await bus.outcome() != "stored":
        pass
    await publisher.stop()
    [kept] = bus.kept()
    assert len(decode(kept.payload, StatisticsBatch).statistics) == 1


async def test_calls_go_on_while_the_account_is_waited_for(
    bus: WatchedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = RecordPublisher(bus, "acme", policy=SharingPolicy(k=2), interval=LONG)
    loop, is_there = asyncio.get_running_loop(), threading.Event()
    begin = Accountant.__enter__

    def call() -> None:
        publisher.add(a_record())
        is_there.set()

    def wait_for_a_call(account: Accountant) -> Accountant:
        loop.call_soon_threadsafe(call)
        assert is_there.wait(10), "the loop stands still"
        return begin(account)

    monkeypatch.setattr(Accountant, "__enter__", wait_for_a_call)
    publisher.add(a_record())
    publisher.add(a_record())
    await publisher.start()
    await publisher.stop()
    [kept] = bus.kept()
    assert decode(kept.payload, StatisticsBatch).statistics[0].tally.count == 3


async def test_nothing_leaves_without_its_account_nor_beyond_it_after_a_restart(
    bus: WatchedBus, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    folder.touch()
    policy = SharingPolicy(k=5, budget=1.0, account=folder / "account.db")

    async def see_five() -> int:
        publisher = RecordPublisher(bus, "globex", policy=policy)
        await publisher.start()
        for _ in range(5):
            publisher.add(a_record())
        await publisher.stop()
        return publisher.published

    with capture_logs() as logs:
        assert await see_five() == 0
    [said] = [entry for entry in logs if entry["event"] == "statistics_kept"]
    assert str(tmp_path) not in str(said)
    folder.unlink()
    assert [await see_five(), await see_five()] == [1, 0]


def test_a_caller_reports_what_a_better_provider_would_have_done_better() -> None:
    good = observation("acme", "add", 0.25, None)
    assert good == a_record(latency_ms=250.0)
    failed = observation("acme", "add", 0.5, ToolFailed("no"))
    assert failed == a_record(success=False, latency_ms=500.0, error_kind="tool_failed")
    for error in (InvalidRequest("yours"), BusUnavailable("ours"), Overloaded("later"), Cancelled("enough")):
        assert observation("acme", "add", 0.5, error) is None
