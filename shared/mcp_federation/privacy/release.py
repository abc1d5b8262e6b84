"""Statistics instead of records: gathered by tool, released with noise once they are about enough. Pure.

The guarantee is differential privacy under the change of one execution: whatever its outcome and its
latency were, what is published is nearly as likely (by a factor of at most e^epsilon). That an execution
took place is hidden among the at least `k` of its release, and not by noise: when a release comes tells
that `k` are reached, whatever is done to the count in it.

Of each execution stay its outcome and its latency, in sums, until they are released; nothing else is kept.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from mcp_federation.contract.messages import Record, Statistics, Tally
from mcp_federation.estimation import MAX_LOG_LATENCY, log_of
from mcp_federation.privacy.accountant import Accountant
from mcp_federation.privacy.policy import Policy

MAX_TOOLS = 10_000
"""Of more tools, those that were used longest ago are forgotten."""

GROWTH = 1.25
"""Each release of a window waits for so many times the executions of the one before: the budget lasts."""

REACH = 2.0
"""How far from what is expected a latency may lie, in ln(ms): 7.4 times faster or slower."""

OUTCOME_SHARE = 0.5
"""The share of a release's epsilon that its outcomes take; the rest is for its latencies."""

FIRST_EXPECTED = math.log(300)
TYPICAL_SPREAD = 0.5
"""The variance of ln(latency) that is told in place of the true one, which is not released."""

Key = tuple[str, str]


class Noise(Protocol):
    """Hides a change of `sensitivity` at a privacy loss of `epsilon`; see `noise.LaplaceNoise`."""

    def count(self, value: int, sensitivity: int, epsilon: float) -> int:
        """A whole number, with noise."""
        ...

    def real(self, value: float, sensitivity: float, epsilon: float) -> float:
        """A real number, with noise."""
        ...


@dataclass(slots=True)
class _Gathered:
    """Executions since the last release; `deviation` sums how far ln(latency) was from `expected`."""

    expected: float = FIRST_EXPECTED
    count: int = 0
    successes: int = 0
    deviation: float = 0.0
    told: float = 0.0


class Gatherer:
    """The executions of one process that were not released yet."""

    def __init__(self, policy: Policy, noise: Noise) -> None:
        self._policy = policy
        self._noise = noise
        self._accountant = Accountant(policy.budget, policy.window)
        self._tools: OrderedDict[Key, _Gathered] = OrderedDict()

    def add(self, record: Record) -> None:
        """Take an execution in. It counts once, and no more than the reach of its latency."""
        key = record.node, record.tool
        gathered = self._tools.setdefault(key, _Gathered())
        self._tools.move_to_end(key)
        gathered.count += 1
        if record.success:
            gathered.successes += 1
            gathered.deviation += _held(log_of(record.latency_ms) - gathered.expected, REACH)
        if len(self._tools) > MAX_TOOLS:
            self._tools.popitem(last=False)

    def release(self, now: float) -> list[Statistics]:
        """What may leave now (seconds of a clock that does not go back); each execution leaves once."""
        return [
            self._statistics(key, gathered)
            for key, gathered in self._tools.items()
            if gathered.count >= self._least(key, now)
            and self._accountant.spend(key, self._policy.epsilon, now)
        ]

    def _least(self, key: Key, now: float) -> float:
        """How many executions the next release waits for: a matter of the earlier releases alone."""
        return self._policy.k * GROWTH ** self._accountant.releases(key, now)

    def _statistics(self, key: Key, gathered: _Gathered) -> Statistics:
        for_outcomes = OUTCOME_SHARE * self._policy.epsilon
        for_latencies = self._policy.epsilon - for_outcomes
        # Change one execution: the successes change by at most 1, a deviation between -REACH and REACH.
        successes = self._noise.count(gathered.successes, 1, for_outcomes)
        deviation = self._noise.real(gathered.deviation, 2 * REACH, for_latencies)
        tally = _tally(gathered, successes, deviation, for_outcomes, for_latencies)
        gathered.count = gathered.successes = 0
        gathered.deviation = 0.0
        _expect(gathered, successes, deviation)
        node, tool = key
        return Statistics(node=node, tool=tool, tally=tally)


def _tally(
    gathered: _Gathered, successes: int, deviation: float, for_outcomes: float, for_latencies: float
) -> Tally:
    mean = gathered.expected
    if successes > 0:
        mean += _held(deviation / successes, REACH)
    mean = min(max(mean, 0.0), MAX_LOG_LATENCY)
    told = max(successes, 0)
    return Tally(
        count=float(gathered.count),
        successes=float(successes),
        log_latency=told * mean,
        log_latency_squares=told * (mean**2 + TYPICAL_SPREAD),
        noise=2 / for_outcomes**2,
        log_noise=2 * (2 * REACH / for_latencies) ** 2,
    )


def _expect(gathered: _Gathered, successes: int, deviation: float) -> None:
    """Move to the mean latency of all releases so far: of what is public, which costs nothing."""
    if successes <= 0:
        return
    gathered.told += successes
    mean = gathered.expected + _held(deviation / successes, REACH)
    gathered.expected += (mean - gathered.expected) * successes / gathered.told
    gathered.expected = min(max(gathered.expected, 0.0), MAX_LOG_LATENCY)


def _held(value: float, bound: float) -> float:
    return min(max(value, -bound), bound)
