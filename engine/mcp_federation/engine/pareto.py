"""The Pareto score and the Pareto front. Pure."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

USAGE_WEIGHT = 0.4
RELIABILITY_WEIGHT = 0.35
COST_WEIGHT = 0.25

HALF_USAGE_COUNT = 100
"""Executions at which measured usage is 0.5."""

HALF_COST = 0.01
"""Mean cost of an execution at which measured cost efficiency is 0.5, in the publisher's currency."""


@dataclass(frozen=True, slots=True)
class Performance:
    """Measured executions of one tool: how many, share that succeeded, typical latency, mean cost.

    usage = count / (count + 100): grows with every execution, and needs no look at other tools.
    reliability = success rate.
    cost efficiency = 1 / (1 + mean cost / 0.01): 1 for a free tool, 0.5 at 0.01 an execution.

    Raises:
        ValueError: a figure is not finite or out of its range.
    """

    count: int
    success_rate: float
    latency_ms: float
    mean_cost: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 <= self.success_rate <= 1:
            raise ValueError("count must not be negative, and the success rate be in [0, 1]")
        if not (0 <= self.latency_ms < math.inf and 0 <= self.mean_cost < math.inf):
            raise ValueError("latency and cost must be finite and not negative")

    @property
    def usage(self) -> float:
        """Usage in [0, 1)."""
        return self.count / (self.count + HALF_USAGE_COUNT)

    @property
    def cost_efficiency(self) -> float:
        """Cost efficiency in (0, 1]."""
        return 1 / (1 + self.mean_cost / HALF_COST)


class Point(NamedTuple):
    """What tools are compared by: more success is better, less latency and less cost are."""

    success: float
    latency: float
    cost: float


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


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better."""
    return (
        one != other
        and one.success >= other.success
        and one.latency <= other.latency
        and one.cost <= other.cost
    )


def pareto_front(points: Sequence[Point]) -> list[int]:
    """The indices of the points that no other point dominates, ascending; O(n log n).

    Distinct points are visited from the most successful on, so whatever dominates a point was visited
    before it. `latencies` and `costs` are the staircase of what was visited: latencies ascend, costs
    descend, and the step at or left of a latency has the least cost seen up to it.
    """
    latencies: list[float] = []
    costs: list[float] = []
    front: set[Point] = set()
    for point in sorted(set(points), key=lambda p: (-p.success, p.latency, p.cost)):
        step = bisect_right(latencies, point.latency)
        if step and costs[step - 1] <= point.cost:
            continue
        front.add(point)
        start = step - 1 if step and latencies[step - 1] == point.latency else step
        end = start
        while end < len(costs) and costs[end] >= point.cost:
            end += 1
        latencies[start:end] = [point.latency]
        costs[start:end] = [point.cost]
    return [index for index, point in enumerate(points) if point in front]
