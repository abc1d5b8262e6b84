"""Which of the tools that fit a request to recommend: relevance against what is predicted. Pure.

A candidate is worth `relevance^2 x utility`, and four fifths of that where another candidate, at least as
relevant, dominates it with confidence in success, latency and cost. Relevance is squared, as a wrong tool is
worse than a slow one. What cannot be run now comes last.

The utility is the predicted probability of success, times what the objective asks for:

    reliability   1
    latency       1 / (1 + median latency / 1 s)
    cost          1 / (1 + mean cost / 0.01)
    balanced      the fourth root of the latter two's product
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from mcp_federation.engine.choice.pareto import Bounds, best_first, on_grid, surely_dominates
from mcp_federation.engine.choice.predictor import Prediction
from mcp_federation.engine.choice.registry import bounds_of
from mcp_federation.estimation import thrift

OFF_FRONT_FACTOR = 0.8
HALF_LATENCY_MS = 1000.0

EXPLORATION_RATE = 0.05
"""The share of recommendations that may put a tool first to learn about it; those who explore divide it."""

COLD = 20.0
"""Executions below which a tool is cold."""

BLIND = 0.1
"""The share of unused chances at which any tool that fits is tried: no word of others keeps one out."""

CLOSE = 0.9
"""The share of the best relevance that a tool must have to be tried instead."""


class Objective(StrEnum):
    """What to prefer among tools that fit."""

    BALANCED = "balanced"
    RELIABILITY = "reliability"
    LATENCY = "latency"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tool that fits a request by its relevance, in [0, 1]."""

    name: str
    relevance: float
    prediction: Prediction
    runnable: bool = True


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place: what it is worth, and why it stands there."""

    candidate: Candidate
    worth: float
    on_front: bool
    explored: bool = False


def utility(objective: Objective, success: float, p50_ms: float, cost: float) -> float:
    """What a tool with these figures is worth, in [0, 1]."""
    speed = 1 / (1 + p50_ms / HALF_LATENCY_MS)
    match objective:
        case Objective.RELIABILITY:
            return success
        case Objective.LATENCY:
            return success * speed
        case Objective.COST:
            return success * thrift(cost)
        case Objective.BALANCED:
            return success * math.sqrt(math.sqrt(speed * thrift(cost)))


def rank(candidates: Sequence[Candidate], objective: Objective = Objective.BALANCED) -> list[Ranked]:
    """The candidates, the one to recommend first in front; ties by name."""
    ranked = [
        Ranked(candidate, _worth(candidate, objective, on_front=on_front), on_front)
        for candidate, on_front in zip(candidates, _on_front(candidates), strict=True)
    ]
    return sorted(ranked, key=lambda r: (not r.candidate.runnable, -r.worth, r.candidate.name))


def _worth(candidate: Candidate, objective: Objective, *, on_front: bool) -> float:
    expected = candidate.prediction
    worth = utility(objective, expected.success_probability, expected.p50_ms, expected.mean_cost)
    return candidate.relevance**2 * worth * (1.0 if on_front else OFF_FRONT_FACTOR)


def _on_front(candidates: Sequence[Candidate]) -> list[bool]:
    """Of each candidate, whether it is on the front of the runnable ones that are at least as relevant.

    O(n f) for f on the front, as `confident_front`: whatever dominates comes before what it dominates.
    """
    bounds = [on_grid(bounds_of(candidate.prediction)) for candidate in candidates]
    order = sorted(
        range(len(candidates)),
        key=lambda place: (-candidates[place].relevance, best_first(bounds[place].worst)),
    )
    on_front = [False] * len(candidates)
    kept: list[Bounds] = []
    for place in order:
        bound = bounds[place]
        on_front[place] = not any(surely_dominates(rival, bound) for rival in kept)
        if on_front[place] and candidates[place].runnable and bound not in kept:
            kept.append(bound)
    return on_front


class Explorer:
    """Puts a cold tool first now and then, by Thompson sampling (1933), at no more than a fixed rate.

    Every recommendation earns `rate` of a chance, so that of n at most `rate x n` explore; those who explore
    for each other earn a part of it each. A chance waits for a sample by which a cold tool is the best, until
    the next one is earned: the surer the figures, the more chances go unused. One of ten of those tries any
    tool.
    """

    def __init__(self, rate: float = EXPLORATION_RATE, random: Random | None = None) -> None:
        self._rate = rate
        self._random = random or Random()  # noqa: S311 - chooses tools, keeps no secret
        self._earned = 0.0

    def explore(
        self, ranked: Sequence[Ranked], objective: Objective = Objective.BALANCED, explorers: int = 1
    ) -> list[Ranked]:
        """The same, perhaps with a cold tool first whose figures, as they might be, are the best.

        `explorers` is how many explore for each other.
        """
        self._earned = min(self._earned + self._rate / explorers, 2.0)
        close = _close(ranked)
        if self._earned < 1 or not close:
            return list(ranked)
        chosen = max(close, key=lambda entry: self._sampled(entry.candidate, objective))
        if chosen is ranked[0] or chosen.candidate.prediction.executions >= COLD:
            if self._earned < 2:
                return list(ranked)
            chosen = self._random.choice(close) if self._random.random() < BLIND else ranked[0]
        self._earned -= 1
        if chosen is ranked[0]:
            return list(ranked)
        first = Ranked(chosen.candidate, chosen.worth, chosen.on_front, explored=True)
        return [first, *(entry for entry in ranked if entry is not chosen)]

    def _sampled(self, candidate: Candidate, objective: Objective) -> float:
        success, p50_ms = candidate.prediction.sampled(self._random)
        worth = utility(objective, success, p50_ms, candidate.prediction.mean_cost)
        return candidate.relevance**2 * worth


def _close(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Those that can be run and are nearly as relevant as the most relevant of them."""
    runnable = [entry for entry in ranked if entry.candidate.runnable]
    best = max((entry.candidate.relevance for entry in runnable), default=0.0)
    return [entry for entry in runnable if entry.candidate.relevance >= CLOSE * best]
