"""What is known of a tool's surroundings: its server, its node, its category, and everything. Pure.

Hierarchical shrinkage (Gelman and others, Bayesian Data Analysis, 2013, chapter 5): what is believed of a
tool starts from what is known of its server, that of a server from its node, and so on; each level counts
for a few executions and is outweighed by those of the next closer one.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mcp_federation.contract.messages import Tally
from mcp_federation.estimation import EMPTY, LATENCY_PRIOR, MAX_LOG_LATENCY, Success, at_most, scaled

FIRST_GUESS = 0.9
"""The probability of success of a tool of which nothing at all is known."""

LEVEL_WEIGHT = 4.0
"""Executions that what is known of a level counts for, one level below."""

LEVEL_SHARE = 20.0
"""Executions that one server, node or category counts for at most in the next wider level: many tools of one
node do not say how those of others are."""

Level = tuple[str, ...]
"""The names on the way to it from the widest level, which is the empty one."""


class _Known(NamedTuple):
    """What is known of a level, and what of it counts in the next wider one, both as they were at `since`."""

    whole: Tally = EMPTY
    share: Tally = EMPTY
    since: float = 0.0


class Levels:
    """Sums of executions by level, which fade with age. `clock` gives seconds and does not go back."""

    def __init__(self, clock: Callable[[], float], half_life: float) -> None:
        self._clock = clock
        self._half_life = half_life
        self._known: dict[Level, _Known] = {}

    def move(self, levels: Sequence[Level], old: Tally, new: Tally) -> None:
        """Let a tool count with one share in place of another in its levels, the widest of them first."""
        now = self._clock()
        for level in reversed(levels):
            before = self._now(level)
            whole = _moved(before.whole, old, new)
            self._known[level] = _Known(whole, at_most(whole, LEVEL_SHARE), now)
            old, new = before.share, self._known[level].share

    def prior(self, levels: Sequence[Level], share: Tally) -> tuple[Success, float]:
        """What the levels say of a tool that counts with that share: its success, and its mean ln(latency).

        From the widest on, each outweighs the one before. Of each only what lies outside the next closer one
        counts, so that each call counts once.
        """
        rate, mean = FIRST_GUESS, LATENCY_PRIOR.mean
        known = [self._now(level) for level in levels]
        closer = [*(level.share for level in known[1:]), share]
        for level, inside in zip(known, closer, strict=True):
            others = _moved(level.whole, inside, EMPTY)
            rate = (LEVEL_WEIGHT * rate + others.successes) / (LEVEL_WEIGHT + others.count)
            mean = (LEVEL_WEIGHT * mean + others.log_latency) / (LEVEL_WEIGHT + others.successes)
        return Success.prior(rate, LEVEL_WEIGHT), mean

    def _now(self, level: Level) -> _Known:
        """What is known of the level, as old as it is."""
        there = self._known.get(level, _Known())
        if not there.whole.count:
            return there
        age = math.exp2(-(self._clock() - there.since) / self._half_life)
        return _Known(scaled(there.whole, age), scaled(there.share, age))


def _moved(there: Tally, old: Tally, new: Tally) -> Tally:
    """A level's sum with one share in place of another, within what a true sum can be."""
    count = max(0.0, there.count - old.count + new.count)
    successes = min(max(0.0, there.successes - old.successes + new.successes), count)
    log_latency = there.log_latency - old.log_latency + new.log_latency
    return Tally(
        count=count,
        successes=successes,
        log_latency=min(max(0.0, log_latency), successes * MAX_LOG_LATENCY),
    )
