"""Estimates of success and latency from tallies of executions. Pure.

Success is a Beta-Binomial, latency a log-normal whose mean and variance have a normal-inverse-gamma
prior: both conjugate, so that sums are all that is needed, and tallies of any origin add up.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from statistics import NormalDist
from typing import NamedTuple

from msgspec.structs import replace

from mcp_federation.contract.messages import Record, Tally

MEMORY = 100.0
"""Executions that an estimate is about: beyond them, the older ones fade."""

REPORTER_WEIGHT = 30.0
"""Executions that the report of one caller counts for at most, so that several outvote one."""

OWN_WEIGHT = 8.0
"""Executions that a provider's figures of itself count for at most where nobody knows how true they are."""

TYPICAL_VARIANCE = 0.16
"""The variance of an outcome, that of four successes in five, to which noise is compared. A noisy share
would tell another, and low ones would count for more than high ones."""

MAX_LATENCY_MS = 300_000.0
MAX_LOG_LATENCY = math.log(MAX_LATENCY_MS)
MAX_COST = 1e3
"""What one execution counts for at most, of latency (ms) and of cost (in the publisher's currency)."""

HALF_COST = 0.01
"""The cost of an execution at which its thrift is 0.5."""

FREE = 4.0
"""Executions without cost that are taken for granted: most tools are free."""

EMPTY = Tally(count=0.0)

_NOTHING = 1e-9
_FADE = 1 - 1 / MEMORY
_NORMAL = NormalDist()


class Estimate(NamedTuple):
    """The probability that a call succeeds, and the median latency of those that do, in ms."""

    success_probability: float
    p50_ms: float


def tally_of(record: Record) -> Tally:
    """One execution. What failed says nothing of the tool's speed."""
    log_latency = log_of(record.latency_ms) if record.success else 0.0
    return Tally(
        count=1.0,
        successes=float(record.success),
        log_latency=log_latency,
        log_latency_squares=log_latency**2,
        cost=min(record.cost, MAX_COST),
    )


def log_of(latency_ms: float) -> float:
    """ln(latency), within what a tally holds."""
    return math.log(min(max(latency_ms, 1.0), MAX_LATENCY_MS))


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    return reduce(_sum, tallies, EMPTY)


def _sum(one: Tally, other: Tally) -> Tally:
    return Tally(
        count=one.count + other.count,
        successes=one.successes + other.successes,
        log_latency=one.log_latency + other.log_latency,
        log_latency_squares=one.log_latency_squares + other.log_latency_squares,
        cost=one.cost + other.cost,
        noise=one.noise + other.noise,
        log_noise=one.log_noise + other.log_noise,
    )


def scaled(tally: Tally, factor: float) -> Tally:
    """The same executions, each counting `factor` (0 to 1) times; less weight is less certainty."""
    return Tally(
        count=tally.count * factor,
        successes=tally.successes * factor,
        log_latency=tally.log_latency * factor,
        log_latency_squares=tally.log_latency_squares * factor,
        cost=tally.cost * factor,
        noise=tally.noise * factor,
        log_noise=tally.log_noise * factor,
    )


def faded(tally: Tally, later: float) -> Tally:
    """The tally after so many later executions."""
    return scaled(tally, _FADE**later)


def at_most(tally: Tally, count: float) -> Tally:
    """The tally, counting for no more executions than that."""
    return tally if tally.count <= count else scaled(tally, count / tally.count)


def worth(tally: Tally) -> float:
    """How many executions without noise would tell as much of success."""
    if not tally.count:
        return 0.0
    variance = TYPICAL_VARIANCE * tally.count
    # Of next to nothing the variance is too small for a double.
    return tally.count * variance / (variance + tally.noise) if variance else 0.0


def worth_at_most(tally: Tally, count: float) -> Tally:
    """The tally, worth no more executions than that."""
    found = worth(tally)
    return tally if found <= count else scaled(tally, count / found)


def evidence(
    provider: str,
    reports: Mapping[str, Tally],
    trust: Callable[[str], float] = lambda _: 1.0,
    rivals: Collection[str] = (),
    credit: Callable[[str], float] = lambda _: OWN_WEIGHT,
) -> Tally:
    """What the reports on a provider's tool, by reporter, say together.

    Each reporter counts by the trust (0 to 1) in it. What the provider says of itself, and what `rivals`,
    who offer the same tool, say of it, counts for its `credit` of executions each at most, for half of that
    when callers know of as many, and so on; and of that by the trust in them, as of all. The cost of all is
    as `mean_cost` has it.
    """
    interested = {provider, *rivals}
    callers = [
        scaled(worth_at_most(tally, REPORTER_WEIGHT), trust(reporter))
        for reporter, tally in reports.items()
        if reporter not in interested
    ]
    known = worth(total(callers))
    claims = [
        scaled(worth_at_most(tally, _outvoted(credit(reporter), known)), trust(reporter))
        for reporter, tally in reports.items()
        if reporter in interested
    ]
    heard = [*callers, *claims]
    whole = total(heard)
    return replace(whole, cost=whole.count * mean_cost(heard))


def thrift(cost: float) -> float:
    """How cheap an execution of that cost is: 1 where it is free, 0.5 at `HALF_COST`."""
    return HALF_COST / (HALF_COST + min(max(cost, 0.0), MAX_COST))


def mean_cost(tallies: Iterable[Tally], free: float = 0.0) -> float:
    """The cost at which an execution is as cheap as those are on the mean, and so many `free` ones.

    A mean of thrift, which is bounded: who claims a cost beyond all others moves it no more than its share
    of the executions.
    """
    parts = [(tally.count, thrift(tally.cost / tally.count)) for tally in tallies if tally.count > _NOTHING]
    weight = free + sum(count for count, _ in parts)
    if not weight:
        return 0.0
    return HALF_COST * (weight / (free + sum(count * cheap for count, cheap in parts)) - 1)


def _outvoted(credit: float, known: float) -> float:
    """For how many executions a claim counts where callers know of so many."""
    most = min(credit, REPORTER_WEIGHT)
    return most**2 / (most + known) if most > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Success:
    """A belief about a probability of success: Beta(successes, failures)."""

    successes: float
    failures: float

    @classmethod
    def prior(cls, mean: float, strength: float) -> "Success":
        """A belief worth `strength` executions."""
        return cls(mean * strength, (1 - mean) * strength)

    @property
    def mean(self) -> float:
        """The expected probability."""
        return self.successes / self.weight

    @property
    def weight(self) -> float:
        """How many executions it is worth."""
        return self.successes + self.failures

    def updated(self, tally: Tally) -> "Success":
        """The belief after those executions; what is noisy counts for as many as it is as precise as."""
        if not tally.count:
            return self
        successes = min(max(tally.successes, 0.0), tally.count)
        weight = worth(tally) / tally.count
        return Success(
            self.successes + weight * successes, self.failures + weight * (tally.count - successes)
        )

    def interval(self, confidence: float) -> tuple[float, float]:
        """Where the probability lies: Wilson's score interval (1927) over the belief's weight."""
        z = _NORMAL.inv_cdf((1 + confidence) / 2)
        n, p = self.weight, self.mean
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Latency:
    """A belief about ln(latency in ms), normal with unknown mean and variance.

    Normal-inverse-gamma: mean ~ N(`mean`, variance / `weight`), variance ~ InvGamma(`shape`, `scale`).
    Updating is Murphy, Conjugate Bayesian analysis of the Gaussian distribution (2007), section 6.
    """

    mean: float
    weight: float
    shape: float
    scale: float

    def updated(self, tally: Tally) -> "Latency":
        """The belief after those executions."""
        n = min(tally.successes, tally.count)
        if n <= 0:
            return self
        mean = min(max(tally.log_latency / n, 0.0), MAX_LOG_LATENCY)
        spread = min(max(tally.log_latency_squares - n * mean**2, 0.0), n * MAX_LOG_LATENCY**2 / 4)
        if tally.log_noise:  # as for success: noisy executions are worth as many as are as precise
            share = (spread + 1e-9) / (spread + 1e-9 + tally.log_noise)
            n, spread = share * n, share * spread
        weight = self.weight + n
        return Latency(
            (self.weight * self.mean + n * mean) / weight,
            weight,
            self.shape + n / 2,
            self.scale + spread / 2 + self.weight * n * (mean - self.mean) ** 2 / (2 * weight),
        )

    @property
    def median(self) -> float:
        """The median latency in ms."""
        return math.exp(self.mean)

    def quantile(self, probability: float) -> float:
        """The latency in ms that the next call stays under with that probability."""
        spread = self.scale * (self.weight + 1) / (self.shape * self.weight)
        return math.exp(self.mean + math.sqrt(spread) * student_quantile(probability, 2 * self.shape))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Where the median latency (ms) lies."""
        half = math.sqrt(self.scale / (self.shape * self.weight)) * student_quantile(
            (1 + confidence) / 2, 2 * self.shape
        )
        return math.exp(self.mean - half), math.exp(self.mean + half)


SUCCESS_PRIOR = Success.prior(0.8, 4)
LATENCY_PRIOR = Latency(math.log(300), 0.2, 2, 1)
"""What is believed of a tool that nothing is known of: tools differ five times as much as calls of one."""


def estimate(tally: Tally) -> Estimate:
    """What those executions, and no others, say of the next one."""
    return Estimate(SUCCESS_PRIOR.updated(tally).mean, LATENCY_PRIOR.updated(tally).median)


def student_quantile(probability: float, degrees: float) -> float:
    """The quantile of Student's t by its expansion at the normal's (Abramowitz and Stegun, 26.7.5).

    Within a percent from 4 degrees of freedom on, in the middle 95 %.
    """
    z = _NORMAL.inv_cdf(probability)
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )
