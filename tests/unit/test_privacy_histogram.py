"""The noise that hides an execution in a histogram: what it costs, and that it is drawn as is said."""

import math
from collections import Counter
from random import Random
from statistics import pvariance
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.privacy.histogram import (
    BALANCE_VARIANCE,
    MOVED_VARIANCE,
    PARTS,
    Histogram,
    moved,
)
from mcp_federation.privacy.noise import AT_ONCE, LaplaceNoise, _laplace

parts = st.integers(-200, 200)


class Seeded:
    """Discrete Laplace noise from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def draw(self, scale: float) -> int:
        return self._geometric(scale) - self._geometric(scale)

    def _geometric(self, scale: float) -> int:
        return math.floor(self._random.expovariate(1 / scale))


def log_density(a: int, b: int, epsilon: float) -> float:
    """ln of the probability of moving these parts, but for a constant."""
    return -(abs(a) + abs(b) + abs(a + b)) * epsilon / (2 * PARTS)


@given(parts, parts, st.booleans(), st.floats(-2, 2), st.booleans(), st.floats(-2, 2), st.floats(0.1, 4))
def test_whatever_is_told_is_nearly_as_likely_with_another_execution_in_place_of_one(
    told: int, also: int, failed: bool, slowness: float, fails: bool, other: float, epsilon: float
) -> None:
    histograms = []
    for is_failure, where in ((failed, slowness), (fails, other)):
        histograms.append(Histogram())
        if is_failure:
            histograms[-1].add_failure()
        else:
            histograms[-1].add_success(where)
    one, two = (log_density(told - h.failed, also - h.fast, epsilon) for h in histograms)
    assert abs(one - two) <= epsilon * (1 + 1e-9)


def test_parts_are_moved_as_often_as_the_density_says() -> None:
    epsilon, noise, draws = 96.0, Seeded(1), 20_000
    found = Counter(moved(noise, epsilon)[:2] for _ in range(draws))
    wide = range(-20, 21)
    whole = sum(math.exp(log_density(a, b, epsilon)) for a in wide for b in wide)
    for a in range(-2, 3):
        for b in range(-2, 3):
            expected = math.exp(log_density(a, b, epsilon)) / whole
            sigma = math.sqrt(expected / draws)
            assert found[a, b] / draws == pytest.approx(expected, abs=4 * sigma)


def test_the_variances_are_what_is_told_of_them() -> None:
    noise = Seeded(2)
    noisy = [Histogram().noisy(noise, 1.0) for _ in range(8000)]
    assert pvariance(h.successes for h in noisy) == pytest.approx(MOVED_VARIANCE, rel=0.08)
    assert pvariance(h.slowness for h in noisy) == pytest.approx(BALANCE_VARIANCE, rel=0.08)


@given(st.lists(st.one_of(st.none(), st.floats(-3, 3)), max_size=50), st.integers(0, 5))
def test_the_number_of_executions_stays_what_it_is(executions: list[float | None], seed: int) -> None:
    histogram = Histogram()
    for slowness in executions:
        if slowness is None:
            histogram.add_failure()
        else:
            histogram.add_success(slowness)
    succeeded = [slowness for slowness in executions if slowness is not None]
    assert histogram.successes == len(succeeded)
    held = sum(min(max(slowness, -1.0), 1.0) for slowness in succeeded)
    assert histogram.slowness == pytest.approx(held, abs=len(succeeded) / PARTS)
    noisy = histogram.noisy(Seeded(seed), 1.0)
    assert noisy.failed + noisy.fast + noisy.slow == PARTS * len(executions)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 200), st.integers(1, 20))
def test_opendp_agrees_about_what_a_draw_hides(scale: float, change: int) -> None:
    measurement: Any = _laplace(scale)
    assert float(measurement.map(change)) <= change / scale * (1 + 1e-6)


def test_no_draw_is_given_twice_and_each_is_of_its_own_scale() -> None:
    noise = LaplaceNoise()
    narrow = [noise.draw(0.01) for _ in range(2 * AT_ONCE)]
    wide = [noise.draw(1e8) for _ in range(2 * AT_ONCE)]
    assert set(narrow) == {0}
    assert len(set(wide)) == 2 * AT_ONCE


def test_opendp_draws_what_is_needed() -> None:
    a, b, c = moved(LaplaceNoise(), 1.0)
    assert a + b + c == 0
