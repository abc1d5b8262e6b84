"""Estimates of success and latency from tallies."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mcp_federation.contract.messages import Record, Tally
from mcp_federation.estimation import (
    LATENCY_PRIOR,
    MAX_COST,
    MAX_LATENCY_MS,
    MEMORY,
    OWN_WEIGHT,
    REPORTER_WEIGHT,
    SUCCESS_PRIOR,
    Success,
    at_most,
    estimate,
    evidence,
    faded,
    mean_cost,
    scaled,
    tally_of,
    total,
    worth,
)

amounts = st.floats(0, 1e9)
sums = st.floats(-1e15, 1e15)
tallies = st.builds(
    Tally,
    count=amounts,
    successes=sums,
    log_latency=sums,
    log_latency_squares=sums,
    cost=sums,
    noise=st.floats(0, 1e15),
)
records = st.builds(
    Record,
    node=st.just("acme"),
    tool=st.just("t"),
    success=st.booleans(),
    latency_ms=st.floats(0, 1e9),
    cost=st.floats(0, 10),
)


def a_record(latency_ms: float = 100.0, *, success: bool = True) -> Record:
    return Record(node="acme", tool="t", success=success, latency_ms=latency_ms)


def good(count: float) -> Tally:
    return Tally(count=count, successes=count)


def bad(count: float) -> Tally:
    return Tally(count=count)


@given(tallies)
def test_whatever_is_reported_an_estimate_is_a_probability_and_a_time(tally: Tally) -> None:
    found = estimate(tally)
    assert 0 < found.success_probability < 1
    assert 0 < found.p50_ms <= MAX_LATENCY_MS * 1.01
    success, latency = SUCCESS_PRIOR.updated(tally), LATENCY_PRIOR.updated(tally)
    low, high = success.interval(0.9)
    assert 0 <= low <= success.mean <= high <= 1
    fast, slow = latency.interval(0.9)
    assert 0 <= fast <= latency.median <= slow
    assert latency.quantile(0.5) <= latency.quantile(0.9) <= latency.quantile(0.99)


@given(st.lists(records, min_size=1, max_size=30))
def test_tallies_add_up_to_what_happened(these: list[Record]) -> None:
    whole = total(map(tally_of, these))
    succeeded = [record for record in these if record.success]
    assert (whole.count, whole.successes) == (len(these), len(succeeded))
    assert whole.cost == pytest.approx(sum(record.cost for record in these))
    assert 0 <= whole.log_latency <= len(succeeded) * math.log(MAX_LATENCY_MS) * 1.001


@given(tallies.map(lambda tally: replace(tally, noise=0.0)), st.floats(0, 1))
def test_less_weight_is_no_more_certainty(tally: Tally, factor: float) -> None:
    whole, part = SUCCESS_PRIOR.updated(tally), SUCCESS_PRIOR.updated(scaled(tally, factor))
    assert part.weight <= whole.weight * (1 + 1e-9)
    assert faded(tally, 0) == tally
    assert at_most(tally, 10).count <= 10 * (1 + 1e-9)


def test_an_estimate_comes_close_to_what_is_true() -> None:
    random = Random(7)
    these = [
        a_record(random.lognormvariate(math.log(250), 0.5), success=random.random() < 0.7)
        for _ in range(2000)
    ]
    tally = total(map(tally_of, these))
    assert estimate(tally).success_probability == pytest.approx(0.7, abs=0.03)
    assert estimate(tally).p50_ms == pytest.approx(250, rel=0.1)
    p90 = math.exp(math.log(250) + 0.5 * 1.2816)
    assert LATENCY_PRIOR.updated(tally).quantile(0.9) == pytest.approx(p90, rel=0.1)


def test_three_lucky_calls_are_less_certain_than_a_thousand() -> None:
    lucky, proven = SUCCESS_PRIOR.updated(good(3)), SUCCESS_PRIOR.updated(Tally(count=1000, successes=970))
    assert lucky.mean < proven.mean
    assert lucky.interval(0.95)[0] < proven.interval(0.95)[0]
    assert lucky.interval(0.95)[1] > proven.interval(0.95)[1]


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = Random(3)
    covered = 0
    for _ in range(400):
        successes = sum(random.random() < 0.8 for _ in range(60))
        low, high = Success(1e-9, 1e-9).updated(Tally(count=60, successes=successes)).interval(0.9)
        covered += low <= 0.8 <= high
    assert 0.84 <= covered / 400 <= 0.96


def test_noise_makes_an_estimate_less_certain() -> None:
    exact = SUCCESS_PRIOR.updated(good(20))
    noisy = SUCCESS_PRIOR.updated(Tally(count=20, successes=20, noise=50))
    assert noisy.weight < exact.weight / 2
    assert noisy.mean < exact.mean


def test_callers_outweigh_what_a_provider_claims_of_itself() -> None:
    inflated = evidence("acme", {"acme": good(1e6), "globex": Tally(count=40, successes=10)})
    assert 30 < inflated.count < 30 + OWN_WEIGHT / 4
    assert estimate(inflated).success_probability < 0.4
    assert estimate(evidence("acme", {"acme": good(1e6)})).success_probability > 0.9


def test_no_reporter_counts_for_more_than_a_few_and_the_distrusted_for_nothing() -> None:
    reports = {"globex": bad(1e9), "initech": good(MEMORY)}
    assert evidence("acme", reports).count == pytest.approx(2 * REPORTER_WEIGHT)
    trusted = evidence("acme", reports, lambda reporter: float(reporter == "initech"))
    assert (trusted.count, trusted.successes) == (REPORTER_WEIGHT, REPORTER_WEIGHT)


@given(st.floats(0, 1e15))
def test_one_record_moves_the_cost_of_many_next_to_nothing_whatever_it_claims(claim: float) -> None:
    honest = Tally(count=30, successes=30, cost=0.3)
    claimed = Tally(count=1, successes=1, cost=claim)
    assert mean_cost([honest]) == pytest.approx(0.01)
    assert mean_cost([evidence("acme", {"globex": honest, "liar": claimed})]) == pytest.approx(0.01, rel=0.1)
    free = Tally(count=30, successes=30)
    assert mean_cost([evidence("acme", {"globex": free, "liar": claimed})]) < 0.0004


@given(st.lists(tallies, max_size=5), st.floats(0, 10))
def test_whatever_is_reported_a_mean_cost_is_one(these: list[Tally], free: float) -> None:
    assert 0 <= mean_cost(these, free) <= MAX_COST * 1.001


def test_what_is_noisy_counts_for_as_much_as_is_as_precise() -> None:
    noisy = Tally(count=90.0, successes=80.0, noise=40.0)
    assert worth(noisy) < 30
    assert evidence("acme", {"globex": noisy}) == noisy
    assert worth(Tally(count=90.0, successes=80.0)) == 90
