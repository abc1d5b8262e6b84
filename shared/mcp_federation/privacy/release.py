"""Statistics instead of records: gathered by tool, released with noise once they are about enough.

The guarantee is differential privacy under the change of one execution: whatever its outcome and its
latency were, what is published is nearly as likely (by a factor of at most e^epsilon). That an execution
took place is hidden among the at least `k` of its release, and not by noise: when a release comes tells
that `k` are reached, whatever is done to the count in it.

Of each execution stays where it lies in a histogram, until that is released; nothing else is kept.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcp_federation.contract.messages import Record, Statistics, Tally
from mcp_federation.contract.names import federated_name
from mcp_federation.estimation import MAX_LOG_LATENCY, log_of
from mcp_federation.privacy.accountant import Accountant
from mcp_federation.privacy.histogram import BALANCE_VARIANCE, MOVED_VARIANCE, Histogram, Noise
from mcp_federation.privacy.sharing import SharingPolicy

MAX_TOOLS = 10_000
"""Of more tools, those that were used longest ago are forgotten."""

GROWTH = 1.25
"""Each release of a window waits for so many times the executions of the one before: the budget lasts."""

FIRST_EXPECTED = math.log(300)
FIRST_DOUBT = 1.0
"""What ln(latency) of a tool is expected before its first release, and the variance of that."""

CALLS_SPREAD = 0.5
"""The variance of ln(latency) between the calls of one tool, which is told in place of the true one."""

DRIFT = 0.02
"""By how much a tool's mean ln(latency) varies from one release to the next."""

NARROW, WIDE = 1.25, 2.5
"""How far from what is expected a latency counts, in ln(ms), at least and at most."""

Key = tuple[str, str]


@dataclass(slots=True)
class _Expected:
    """The mean ln(latency) by all earlier releases, which are public: a Kalman filter (1960)."""

    mean: float = FIRST_EXPECTED
    doubt: float = FIRST_DOUBT

    @property
    def reach(self) -> float:
        """How far from it a latency counts: within a calls' spread of where the mean may be."""
        return min(NARROW + math.sqrt(self.doubt), WIDE)

    def update(self, released: Tally) -> None:
        """Move towards what a release says; one that surprises tells that the tool has changed."""
        if released.successes < 1:
            return
        surprise = released.log_latency / released.successes - self.mean
        variance = released.log_noise / released.successes**2 + CALLS_SPREAD / released.successes
        doubt = max(self.doubt + DRIFT, surprise**2 - variance)
        gain = doubt / (doubt + variance)
        self.mean = _held_in(self.mean + gain * surprise, 0.0, MAX_LOG_LATENCY)
        self.doubt = (1 - gain) * doubt


@dataclass(slots=True)
class _Gathered:
    """Executions since the last release."""

    expected: _Expected = field(default_factory=_Expected)
    count: int = 0
    executions: Histogram = field(default_factory=Histogram)


class Gatherer:
    """The executions of one process that were not released yet."""

    def __init__(self, policy: SharingPolicy, noise: Noise) -> None:
        self._policy = policy
        self._noise = noise
        self._accountant = Accountant(policy.budget, policy.window, policy.account)
        self._tools: OrderedDict[Key, _Gathered] = OrderedDict()

    def add(self, record: Record) -> None:
        """Take an execution in. It counts once, and no more than the reach of its latency."""
        key = record.node, record.tool
        gathered = self._tools.get(key)
        if gathered is None:
            gathered = self._tools[key] = _Gathered()
        else:
            self._tools.move_to_end(key)
        gathered.count += 1
        if record.success:
            expected = gathered.expected
            gathered.executions.add_success((log_of(record.latency_ms) - expected.mean) / expected.reach)
        else:
            gathered.executions.add_failure()
        if len(self._tools) > MAX_TOOLS:
            self._tools.popitem(last=False)

    def release(self, now: float) -> list[Statistics]:
        """What may leave at `now`; see `spend`."""
        return self.released(self.spend(self.ripe(), now))

    def ripe(self) -> dict[Key, int]:
        """The tools that there are enough executions of, by the policy, and how many those are."""
        return {key: it.count for key, it in self._tools.items() if it.count >= self._policy.k}

    def spend(self, ripe: Mapping[Key, int], now: float) -> list[Key]:
        """Of which of these statistics may leave at `now` (wall clock, in seconds): it is paid for.

        This waits for a file, and works on nothing else: it may run in a thread.

        Raises:
            InternalError: what was spent cannot be known or kept, so that nothing may leave.
        """
        if not ripe:
            return []
        with self._accountant:
            return [
                key for key, count in ripe.items() if count >= self._least(key, now) and self._spend(key, now)
            ]

    def released(self, paid: Iterable[Key]) -> list[Statistics]:
        """The statistics of tools that were paid for; each execution leaves once.

        A tool may have been forgotten meanwhile, and have begun anew.
        """
        ripe = self.ripe()
        return [self._statistics(key, self._tools[key]) for key in paid if key in ripe]

    def close(self) -> None:
        """Let go of the account."""
        self._accountant.close()

    def _least(self, key: Key, now: float) -> float:
        """How many executions the next release waits for: a matter of the earlier releases alone."""
        return self._policy.k * GROWTH ** self._accountant.releases(_account(key), now)

    def _spend(self, key: Key, now: float) -> bool:
        return self._accountant.spend(_account(key), self._policy.epsilon, now)

    def _statistics(self, key: Key, gathered: _Gathered) -> Statistics:
        epsilon = self._policy.epsilon
        tally = _tally(gathered, gathered.executions.noisy(self._noise, epsilon), epsilon)
        gathered.expected.update(tally)
        gathered.count, gathered.executions = 0, Histogram()
        node, tool = key
        return Statistics(node=node, tool=tool, tally=tally)


def _tally(gathered: _Gathered, noisy: Histogram, epsilon: float) -> Tally:
    """What the noisy histogram says: a matter of it, and of what is public."""
    told, expected = max(noisy.successes, 0.0), gathered.expected
    slowness = _held_in(noisy.slowness / told, -1.0, 1.0) if told else 0.0
    mean = _held_in(expected.mean + expected.reach * slowness, 0.0, MAX_LOG_LATENCY)
    return Tally(
        count=float(gathered.count),
        successes=noisy.successes,
        log_latency=told * mean,
        log_latency_squares=told * (mean**2 + CALLS_SPREAD),
        noise=MOVED_VARIANCE / epsilon**2,
        log_noise=BALANCE_VARIANCE * (expected.reach / epsilon) ** 2,
    )


def _account(key: Key) -> str:
    node, tool = key
    return federated_name(tool, node)


def _held_in(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
