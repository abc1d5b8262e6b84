"""An aggregate of one tool: folding, merging, and the message."""

from bisect import bisect_left, bisect_right
from math import log
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_federation.contract.messages import Performance, Record, Tally, decode, encode
from mcp_federation.errors import InvalidRequest
from mcp_federation.estimation import MAX_COST
from mcp_federation.metrics.aggregate import MAX_COUNT, QUANTILES, Aggregate
from mcp_federation.metrics.sketch import MAX_LATENCY_MS

RANK_ERROR = 0.03
"""Twice the rank error that the sketch promises for 99 % of its answers."""

records = st.builds(
    Record,
    node=st.just("acme"),
    tool=st.just("add"),
    success=st.booleans(),
    latency_ms=st.floats(min_value=0, max_value=1e6),
    cost=st.floats(min_value=0, max_value=100),
    error_kind=st.sampled_from(["tool_failed", "deadline_exceeded", "no code!", None]),
)
sums = st.floats(-1e15, 1e15)
tallies = st.builds(
    Tally,
    count=st.floats(0, 1e9),
    successes=sums,
    log_latency=sums,
    log_latency_squares=sums,
    cost=sums,
    noise=st.floats(0, 1e15),
)
performances = st.builds(
    Performance,
    node=st.just("acme"),
    tool=st.just("add"),
    count=st.integers(0, 2**70),
    successes=st.integers(0, 2**70),
    errors=st.dictionaries(st.text(), st.integers(0, 2**70), max_size=5),
    latency_p50=st.none() | st.floats(min_value=0, allow_infinity=False),
    latency_sketch=st.none() | st.binary(),
    cost_total=st.floats(min_value=0, allow_infinity=False),
    recent=st.dictionaries(st.sampled_from(["acme", "globex"]), tallies, max_size=2),
    folded_last=st.integers(0, 2**70),
    folded=st.binary(max_size=2000),
)


def folded(*batches: list[Record], reporter: str = "acme") -> Aggregate:
    aggregate = Aggregate("acme", "add")
    for batch in batches:
        aggregate.add(reporter, batch)
    return aggregate


def success(latency: float) -> Record:
    return Record(node="acme", tool="add", success=True, latency_ms=latency)


def failure(kind: str | None, cost: float = 0.0) -> Record:
    return Record(node="acme", tool="add", success=False, latency_ms=1, cost=cost, error_kind=kind)


def assert_alike(one: Aggregate, other: Aggregate) -> None:
    assert (one.count, one.successes, one.errors) == (other.count, other.successes, other.errors)
    assert one.cost_total == pytest.approx(other.cost_total)
    assert one.latencies.n == other.latencies.n


def assert_close(aggregate: Aggregate, latencies: list[float]) -> None:
    """Every published quantile stands about where it should among the latencies themselves."""
    ordered = sorted(latencies)
    message = aggregate.performance()
    published = (message.latency_p50, message.latency_p90, message.latency_p99)
    for rank, value in zip(QUANTILES, published, strict=True):
        assert value is not None
        low, high = bisect_left(ordered, value), bisect_right(ordered, value)
        slack = RANK_ERROR * len(ordered) + 1
        assert low - slack <= rank * len(ordered) <= high + slack


@given(st.lists(records))
def test_folding_counts_what_happened(these: list[Record]) -> None:
    aggregate = folded(these)
    assert aggregate.count == len(these)
    assert aggregate.successes == sum(record.success for record in these)
    assert aggregate.errors.total() == aggregate.count - aggregate.successes
    assert aggregate.cost_total == pytest.approx(sum(record.cost for record in these))
    assert set(aggregate.errors) <= {"tool_failed", "deadline_exceeded", "other"}


@given(st.lists(records), st.lists(records), st.lists(records))
def test_batches_give_the_same_in_any_order_and_grouping(
    a: list[Record], b: list[Record], c: list[Record]
) -> None:
    straight = folded(a, b, c)
    assert_alike(straight, folded(c, a, b))
    assert_alike(straight, folded([*a, *b, *c]))
    if latencies := [record.latency_ms for record in (*a, *b, *c) if record.success]:
        assert_close(straight, latencies)


@pytest.mark.parametrize("parts", [1, 7, 100])
def test_quantiles_of_many_batches_are_close_to_the_true_ones(parts: int) -> None:
    latencies = [float(number * 7919 % 20_011) for number in range(20_000)]
    assert_close(
        folded(*([success(value) for value in latencies[part::parts]] for part in range(parts))), latencies
    )


@given(st.lists(records), st.floats(1, 1e6), st.floats(-1e15, 1e15), st.floats(-1e15, 1e15))
def test_statistics_count_like_records_within_what_they_can_be(
    these: list[Record], count: float, successes: float, log_latency: float
) -> None:
    aggregate = folded(these)
    aggregate.add_statistics("globex", Tally(count=count, successes=successes, log_latency=log_latency))
    assert aggregate.count == len(these) + round(count)
    assert aggregate.observed == round(count)
    assert aggregate.errors.total() == aggregate.count - aggregate.successes
    message = aggregate.performance()
    assert decode(encode(message), Performance) == message


def test_without_records_the_quantiles_are_those_that_statistics_let_expect() -> None:
    aggregate = Aggregate("acme", "add")
    assert aggregate.performance().latency_p50 is None
    spread = 100 * log(200) ** 2 + 1
    aggregate.add_statistics(
        "globex", Tally(count=100, successes=100, log_latency=100 * log(200), log_latency_squares=spread)
    )
    message = aggregate.performance()
    assert message.latency_sketch is None
    assert message.latency_p50 is not None
    assert message.latency_p50 == pytest.approx(200, rel=0.02)
    assert message.latency_p90 is not None
    assert message.latency_p99 is not None
    assert message.latency_p50 < message.latency_p90 < message.latency_p99


def test_it_keeps_apart_what_the_provider_and_what_callers_report() -> None:
    aggregate = folded([success(1)] * 3)
    aggregate.add("globex", [failure("tool_failed")] * 2)
    message = aggregate.performance()
    assert (message.count, message.observed) == (5, 2)
    assert message.recent["acme"].successes == pytest.approx(message.recent["acme"].count)
    assert message.recent["globex"].successes == 0


@given(st.lists(records))
def test_an_aggregate_survives_its_message(these: list[Record]) -> None:
    message = folded(these).performance()
    back = Aggregate.of(decode(encode(message), Performance))
    assert not back.sketch_refused
    assert back.performance() == message


@given(st.lists(records, min_size=1))
def test_quantiles_rise_and_lie_between_the_fastest_and_the_slowest(these: list[Record]) -> None:
    message = folded(these).performance()
    latencies = [record.latency_ms for record in these if record.success]
    if not latencies:
        assert (message.latency_p50, message.latency_p90, message.latency_p99) == (None, None, None)
        assert message.latency_sketch is None
        return
    assert message.latency_p50 is not None
    assert message.latency_p90 is not None
    assert message.latency_p99 is not None
    assert min(latencies) <= message.latency_p50 <= message.latency_p90
    assert message.latency_p90 <= message.latency_p99 <= max(latencies)


def test_the_latency_of_a_failure_says_nothing_of_the_tools_speed() -> None:
    aggregate = folded([success(10), failure("tool_failed")])
    assert aggregate.performance().latency_p99 == 10


def test_what_is_beyond_reason_counts_as_the_bound() -> None:
    slow = Record(node="acme", tool="add", success=True, latency_ms=1e300, cost=1.7e308)
    aggregate = folded([slow, slow])
    assert aggregate.latencies.get_max_value() == MAX_LATENCY_MS
    assert aggregate.cost_total == 2 * MAX_COST
    assert decode(encode(aggregate.performance()), Performance).count == 2


def test_a_kind_of_error_that_is_no_code_becomes_other() -> None:
    kinds = ["tool_failed", "user=bob; secret", "kind_7", "other", None]
    aggregate = folded([failure(kind) for kind in kinds])
    assert aggregate.errors == {"tool_failed": 1, "other": 4}
    told = Performance(node="acme", tool="add", count=3, successes=0, errors={"bob": 1, "other": 2})
    assert Aggregate.of(told).performance().errors == {"other": 3}


@pytest.mark.parametrize("sketch", [b"", b"garbage", bytes(16), b"\xff" * 4000])
def test_a_sketch_that_is_none_is_left_out_and_the_counts_stay(sketch: bytes) -> None:
    message = Performance(node="acme", tool="add", count=5, successes=5, latency_sketch=sketch)
    aggregate = Aggregate.of(message)
    assert aggregate.sketch_refused
    assert aggregate.count == 5
    aggregate.add("acme", [success(7)])
    assert aggregate.performance().latency_p50 == 7


def test_a_sketch_of_more_executions_than_succeeded_is_left_out() -> None:
    big = folded([success(1)] * 9).performance()
    assert big.latency_sketch is not None
    aggregate = Aggregate.of(
        Performance(node="acme", tool="add", count=8, successes=8, latency_sketch=big.latency_sketch)
    )
    assert aggregate.sketch_refused
    assert aggregate.latencies.is_empty()


@pytest.mark.parametrize(
    "contradiction",
    [
        {"count": 1, "successes": 2},
        {"count": 2, "successes": 1},
        {"count": 2, "successes": 2, "errors": {"tool_failed": 1}},
        {"count": MAX_COUNT + 1, "successes": MAX_COUNT + 1},
        {"count": 1, "successes": 1, "observed": 2},
    ],
)
def test_a_performance_that_contradicts_itself_is_refused(contradiction: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Aggregate.of(Performance(node="acme", tool="add", **contradiction))


@given(performances, st.lists(records, max_size=5))
@example(Performance(node="acme", tool="add", count=MAX_COUNT, successes=MAX_COUNT), [success(1.0)])
def test_no_performance_from_outside_breaks_what_we_publish(
    message: Performance, these: list[Record]
) -> None:
    try:
        aggregate = Aggregate.of(message)
    except InvalidRequest:
        return
    aggregate.add("acme", these)
    published = aggregate.performance()
    assert decode(encode(published), Performance) == published
