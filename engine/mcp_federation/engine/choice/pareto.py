"""The Pareto score and the Pareto front. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import astuple

from mcp_federation.contract.messages import Tally
from mcp_federation.estimation import log_of, thrift

USAGE_WEIGHT = 0.4
RELIABILITY_WEIGHT = 0.35
COST_WEIGHT = 0.25

HALF_USAGE_COUNT = 100
"""Executions at which measured usage is 0.5."""

MAX_CLAIM = 100
"""Executions that the word of one reporter counts for at most in usage."""

_TYPICAL_SPREAD = 0.5
"""The variance of ln(latency) that is assumed where only a typical latency is known."""

_SOMEBODY = "?"

SUCCESS_GRID = 0.02
LATENCY_GRID = 1.1
THRIFT_GRID = 0.05
"""What makes no difference worth a place on the front: two points of success, a tenth of latency, and five
points of thrift, more than one record can move."""


@dataclass(frozen=True, slots=True)
class Performance:
    """Measured executions of one tool: how many, share that succeeded, typical latency, mean cost.

    usage = count / (count + 100): grows with every execution, and needs no look at other tools.
    reliability = success rate.
    cost efficiency = 1 / (1 + mean cost / 0.01): 1 for a free tool, 0.5 at 0.01 an execution.

    `reports` has the latest executions by who reported them, where that is known; `provider` is the one
    of them that runs the tool; without reports, all are by its word.

    Raises:
        ValueError: a figure is not finite or out of its range.
    """

    count: int
    success_rate: float
    latency_ms: float
    mean_cost: float = 0.0
    provider: str = ""
    reports: Mapping[str, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 <= self.success_rate <= 1:
            raise ValueError("count must not be negative, and the success rate be in [0, 1]")
        if not (0 <= self.latency_ms < math.inf and 0 <= self.mean_cost < math.inf):
            raise ValueError("latency and cost must be finite and not negative")
        if not all(all(map(math.isfinite, astuple(tally))) for tally in self.reports.values()):
            raise ValueError("every sum in a report must be finite")

    @property
    def usage(self) -> float:
        """Usage in [0, 1)."""
        return self.count / (self.count + HALF_USAGE_COUNT)

    @property
    def cost_efficiency(self) -> float:
        """Cost efficiency in (0, 1]."""
        return thrift(self.mean_cost)

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """The executions by reporter."""
        if self.reports or not self.count:
            return self.reports
        successes = self.count * self.success_rate
        log_latency = log_of(self.latency_ms)
        whole = Tally(
            count=float(self.count),
            successes=successes,
            log_latency=successes * log_latency,
            log_latency_squares=successes * (log_latency**2 + _TYPICAL_SPREAD),
            cost=self.count * self.mean_cost,
        )
        return {self.provider or _SOMEBODY: whole}


class Point(NamedTuple):
    """What tools are compared by: more success is better, less latency and less cost are."""

    success: float
    latency: float
    cost: float


class Bounds(NamedTuple):
    """What a tool is at worst, as is expected, and at best, as sure as its measurements allow."""

    worst: Point
    expected: Point
    best: Point


def unit(value: float) -> float:
    """The value held in [0, 1]; what is not a number counts as 0."""
    return 0.0 if math.isnan(value) else min(1.0, max(0.0, value))


def pareto_score(usage: float, reliability: float, cost_efficiency: float) -> float:
    """0.4 usage + 0.35 reliability + 0.25 cost efficiency, three decimals, in [0, 1]."""
    return round(
        USAGE_WEIGHT * unit(usage)
        + RELIABILITY_WEIGHT * unit(reliability)
        + COST_WEIGHT * unit(cost_efficiency),
        3,
    )


def confident_front(bounds: Sequence[Bounds]) -> list[int]:
    """The indices of those that no other dominates with confidence, ascending; O(n f) for f of them.

    One dominates another where it is nowhere worse, neither at worst nor as expected, and somewhere better
    at worst than the other at best, on a grid of what makes a difference. A few lucky calls leave a wide
    interval: their worst is too bad to dominate, their best too good to be dominated.

    That is a strict order, and whatever dominates is better at worst: visited from the best worst on,
    each needs to be compared with those that were kept only.
    """
    gridded = [on_grid(bound) for bound in bounds]
    order = sorted(range(len(bounds)), key=lambda index: best_first(gridded[index].worst))
    kept: list[Bounds] = []
    front: list[int] = []
    for index in order:
        bound = gridded[index]
        if not any(surely_dominates(other, bound) for other in kept):
            front.append(index)
            if bound not in kept:
                kept.append(bound)
    return sorted(front)


def on_grid(bounds: Bounds) -> Bounds:
    """The bounds on the grid, where what differs by next to nothing is equal."""
    return Bounds(_gridded(bounds.worst), _gridded(bounds.expected), _gridded(bounds.best))


def surely_dominates(one: Bounds, other: Bounds) -> bool:
    """Whether one dominates the other with confidence (see `confident_front`); both are on the grid."""
    return (
        _nowhere_worse(one.worst, other.worst)
        and _nowhere_worse(one.expected, other.expected)
        and not _nowhere_worse(other.best, one.worst)
    )


def _nowhere_worse(one: Point, other: Point) -> bool:
    return one.success >= other.success and one.latency <= other.latency and one.cost <= other.cost


def best_first(point: Point) -> tuple[float, float, float]:
    """A key to sort points by, so that no point comes before one that dominates it."""
    return -point.success, point.latency, point.cost


def _gridded(point: Point) -> Point:
    latency = math.floor(math.log(max(point.latency, 1e-3)) / math.log(LATENCY_GRID))
    expense = math.floor((1 - thrift(point.cost)) / THRIFT_GRID)
    return Point(math.floor(point.success / SUCCESS_GRID), latency, expense)
