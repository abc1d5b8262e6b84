import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.contract.messages import Tally
from mcp_federation.engine.choice.pareto import (
    Bounds,
    Performance,
    Point,
    confident_front,
    pareto_score,
    unit,
)
from mcp_federation.engine.choice.predictor import Prediction
from mcp_federation.engine.choice.registry import bounds_of
from mcp_federation.estimation import LATENCY_PRIOR, SUCCESS_PRIOR


def test_the_score_weighs_usage_reliability_and_cost_as_documented() -> None:
    assert pareto_score(0.25, 0.92, 0.88) == 0.642
    assert pareto_score(1, 0, 0) == 0.4
    assert pareto_score(0, 1, 0) == 0.35
    assert pareto_score(0, 0, 1) == 0.25


@given(*[st.floats(allow_nan=True, allow_infinity=True)] * 3)
def test_the_score_is_in_the_unit_interval_whatever_it_is_given(a: float, b: float, c: float) -> None:
    score = pareto_score(a, b, c)
    assert 0 <= score <= 1
    assert score == round(score, 3)
    assert 0 <= unit(a) <= 1


@given(st.integers(0, 10**9), st.floats(0, 1), st.floats(0, 1e9), st.floats(0, 1e9))
def test_measured_terms_are_in_the_unit_interval(
    count: int, success: float, latency: float, cost: float
) -> None:
    performance = Performance(count, success, latency, cost)
    assert 0 <= performance.usage < 1
    assert 0 < performance.cost_efficiency <= 1


def test_usage_and_cost_efficiency_are_halved_where_documented() -> None:
    performance = Performance(count=100, success_rate=1.0, latency_ms=5.0, mean_cost=0.01)
    assert performance.usage == 0.5
    assert performance.cost_efficiency == 0.5
    assert Performance(1, 1.0, 5.0).cost_efficiency == 1.0


@pytest.mark.parametrize(
    "figures",
    [(-1, 1, 1, 0), (1, 1.1, 1, 0), (1, -0.1, 1, 0), (1, 1, -1, 0), (1, 1, math.nan, 0), (1, 1, 1, math.inf)],
)
def test_impossible_measurements_are_refused(figures: tuple[int, float, float, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Performance(*figures)


def around(success: float, latency: float, cost: float = 0.0, spread: float = 0.02) -> Bounds:
    return Bounds(
        Point(max(0.0, success - spread), latency * (1 + spread), cost),
        Point(success, latency, cost),
        Point(min(1.0, success + spread), latency / (1 + spread), cost),
    )


bounds = st.builds(
    around,
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.sampled_from([1.0, 10.0, 11.0, 100.0]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.001, 0.05, 0.5]),
)


def test_three_lucky_calls_neither_dominate_a_thousand_nor_are_dominated() -> None:
    lucky = bounds_of(predicted(Tally(count=3, successes=3, log_latency=3 * math.log(20))))
    log = math.log(200)
    proven = bounds_of(
        predicted(
            Tally(count=1000, successes=990, log_latency=990 * log, log_latency_squares=990 * (log**2 + 0.3))
        )
    )
    assert confident_front([lucky, proven]) == [0, 1]


def test_what_is_surely_worse_in_one_thing_and_nowhere_better_leaves_the_front() -> None:
    assert confident_front([around(0.95, 100), around(0.95, 300), around(0.5, 100)]) == [0]
    assert confident_front([around(0.95, 100, cost=1.0), around(0.95, 100, cost=0.0)]) == [1]


def test_what_differs_by_next_to_nothing_stays_on_the_front() -> None:
    assert confident_front([around(0.951, 100), around(0.95, 101)]) == [0, 1]


@given(st.lists(bounds, max_size=30))
def test_there_is_always_a_front_and_it_needs_no_one_that_is_off_it(these: list[Bounds]) -> None:
    front = confident_front(these)
    assert bool(front) == bool(these)
    kept = [these[index] for index in front]
    assert confident_front(kept) == list(range(len(kept)))


@given(st.lists(bounds, max_size=20))
def test_what_nothing_is_known_of_is_never_dominated(these: list[Bounds]) -> None:
    unknown = Bounds(Point(0.0, 1e9, 0.0), Point(0.5, 300, 0.0), Point(1.0, 1e-9, 0.0))
    assert len(these) in confident_front([*these, unknown])


def predicted(tally: Tally) -> Prediction:
    return Prediction(SUCCESS_PRIOR.updated(tally), LATENCY_PRIOR.updated(tally), tally.count)


def test_a_cost_that_is_next_to_nothing_costs_no_place_on_the_front() -> None:
    free, slandered, dear = around(0.9, 100), around(0.99, 50, cost=0.0004), around(0.9, 100, cost=0.01)
    assert confident_front([free, slandered]) == [1]
    assert confident_front([free, around(0.99, 50, cost=0.01)]) == [0, 1]
    assert confident_front([slandered, dear]) == [0]
