"""Predicts how a call of each tool will go, from what was seen here and what others report. Pure.

What is believed of a tool starts from what is known of its surroundings (see `levels`). Its evidence is:

- what this process saw itself, exact, the last `OWN_MEMORY` executions;
- what others report, by how far each reporter is trusted, and its word of itself and of its rivals by what
  credit it has (see `reporter_trust`). It fades as own executions come in, with age, and where they
  contradict it.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from mcp_federation.contract.messages import Tally
from mcp_federation.engine.choice.levels import Levels
from mcp_federation.engine.choice.reporter_trust import ReporterTrust, agreement
from mcp_federation.estimation import (
    EMPTY,
    FREE,
    LATENCY_PRIOR,
    MAX_LOG_LATENCY,
    Latency,
    Success,
    at_most,
    evidence,
    log_of,
    mean_cost,
    scaled,
    total,
)

OWN_MEMORY = 25.0
"""Own executions that count: after as many newer ones, an outcome counts 1/e."""

HALF_LIFE = 3600.0
"""Seconds after which evidence counts half: a tool that nobody calls may have healed, or broken."""

TOOL_SHARE = 5.0
"""Executions that one tool counts for at most in what is known of its levels: tools differ."""

EXPLORERS = 5
"""How many callers explore for each other at most: no crowd, and no invented one, ends the exploring."""

NOISY_EXPLORERS = 20
"""The same where they report with noise: what one of them tries then tells the others little, and late."""

CONFIDENCE = 0.9
"""How sure intervals are."""

_OWN_FADE = 1 - 1 / OWN_MEMORY


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tool stands: what it shares with others, from the closest on; and its plain local name."""

    server: str = ""
    node: str = ""
    category: str = ""
    tool: str = ""

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """From the widest to the closest, as far as they are known; the empty one is everything."""
        known = [self.category, self.node, self.server]
        while known and not known[-1]:
            known.pop()
        return tuple(tuple(known[:depth]) for depth in range(len(known) + 1))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of the next call; latencies in ms, of calls that succeed.

    `executions` is how many the tool's own evidence is worth, without what comes from the levels, and
    `measured` the share of them that succeeded; None where there is no evidence.
    """

    success: Success
    latency: Latency
    executions: float
    measured: float | None = None
    mean_cost: float = 0.0

    @property
    def success_probability(self) -> float:
        """The probability that it succeeds."""
        return self.success.mean

    @property
    def success_interval(self) -> tuple[float, float]:
        """Where that probability lies."""
        return self.success.interval(CONFIDENCE)

    @property
    def p50_ms(self) -> float:
        """The median latency."""
        return self.latency.median

    @property
    def p50_interval(self) -> tuple[float, float]:
        """Where the median latency lies."""
        return self.latency.interval(CONFIDENCE)

    def quantile_ms(self, probability: float) -> float:
        """The latency that the call stays under with that probability."""
        return self.latency.quantile(probability)

    def sampled(self, random: Random) -> tuple[float, float]:
        """A success probability and a median latency as they might be, for Thompson sampling."""
        mean = random.gauss(
            self.latency.mean,
            math.sqrt(self.latency.scale / (self.latency.shape * self.latency.weight)),
        )
        success = random.betavariate(self.success.successes, self.success.failures)
        return success, math.exp(min(max(mean, 0.0), MAX_LOG_LATENCY))


@dataclass(slots=True)
class _Known:
    place: Place
    own: Tally = EMPTY
    own_at: float = 0.0
    provider: str = ""
    reports: Mapping[str, Tally] | None = None
    reported_at: float = 0.0
    share: Tally = EMPTY
    shared_at: float = 0.0


class PerformancePredictor:
    """What is known of each tool, by name. `clock` gives seconds and does not go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tools: dict[str, _Known] = {}
        self._levels = Levels(clock, HALF_LIFE)
        self._offers: dict[str, set[str]] = {}
        self._callers: dict[str, float] = {}
        self._noise_at = -math.inf
        self.trust = ReporterTrust()

    def put(self, name: str, place: Place) -> None:
        """Say where the tool stands; what is known of it goes with it."""
        known = self._known(name)
        if known.place != place:
            self._move(known, EMPTY)
            known.place = place
            self._share(known)
        if place.tool and place.node:
            self._offers.setdefault(place.tool, set()).add(place.node)

    def observe(self, name: str, *, success: bool, latency_ms: float) -> None:
        """Take in what became of a call from here.

        Raises:
            ValueError: the latency is not finite, or negative.
        """
        if not 0 <= latency_ms < math.inf:
            raise ValueError(f"a latency is a finite number of milliseconds from 0, not {latency_ms}")
        known, now = self._known(name), self._clock()
        log_latency = log_of(latency_ms) if success else 0.0
        one = Tally(
            count=1.0,
            successes=float(success),
            log_latency=log_latency,
            log_latency_squares=log_latency**2,
        )
        known.own = total((scaled(known.own, _OWN_FADE * self._age(known.own_at)), one))
        known.own_at = now
        if known.reports:
            self._compare(name, known)
        self._share(known)

    def report(self, name: str, provider: str, reports: Mapping[str, Tally]) -> None:
        """Take in what others say of the tool, by reporter; it replaces what they said before."""
        known = self._known(name)
        known.provider, known.reports, known.reported_at = provider, dict(reports), self._clock()
        for reporter in reports.keys() - {provider}:
            self._callers[reporter] = known.reported_at
            if reports[reporter].noise:
                self._noise_at = known.reported_at
        self._compare(name, known)
        self._share(known)

    def forget(self, name: str) -> None:
        """Know no more of the tool, and its levels nothing by it."""
        known = self._tools.pop(name, None)
        if known is None:
            return
        self._move(known, EMPTY)
        offering = self._offers.get(known.place.tool, set())
        offering.discard(known.place.node)
        if not offering:
            self._offers.pop(known.place.tool, None)

    @property
    def explorers(self) -> int:
        """How many explore for each other: who lately reported on tools that are not theirs, or we alone."""
        since = self._clock() - HALF_LIFE
        callers = sum(heard >= since for heard in self._callers.values())
        return max(1, min(callers, NOISY_EXPLORERS if self._noise_at >= since else EXPLORERS))

    def is_measured(self, name: str) -> bool:
        """Whether anything was seen of the tool, here or elsewhere."""
        known = self._tools.get(name)
        return known is not None and (known.own.count > 0 or bool(known.reports))

    def predict(self, name: str) -> Prediction:
        """What is expected of the next call; of an unknown tool, what is expected of any."""
        known = self._tools.get(name, _Known(Place()))
        heard = self._heard(known)
        seen = self._evidence(known, heard)
        success, mean = self._levels.prior(known.place.levels, self._old_share(known))
        latency = Latency(mean, LATENCY_PRIOR.weight, LATENCY_PRIOR.shape, LATENCY_PRIOR.scale)
        believed = success.updated(seen)
        has_evidence = seen.count > 0
        return Prediction(
            believed,
            latency.updated(seen),
            max(0.0, believed.weight - success.weight),
            round(min(max(seen.successes / seen.count, 0.0), 1.0), 6) if has_evidence else None,
            mean_cost([scaled(heard, self._age(known.reported_at))], FREE),
        )

    def _compare(self, name: str, known: _Known) -> None:
        self.trust.compare(name, known.provider, known.reports or {}, known.own, self._rivals(known))

    def _rivals(self, known: _Known) -> set[str]:
        """Who else offers the tool, and gains when nobody calls this one."""
        return self._offers.get(known.place.tool, set()) - {known.provider}

    def _known(self, name: str) -> _Known:
        return self._tools.setdefault(name, _Known(Place()))

    def _age(self, since: float) -> float:
        return math.exp2(-(self._clock() - since) / HALF_LIFE)

    def _evidence(self, known: _Known, heard: Tally) -> Tally:
        own = scaled(known.own, self._age(known.own_at)) if known.own.count else EMPTY
        if not heard.count:
            return own
        fade = _OWN_FADE**own.count * agreement(own, heard)
        return total((own, scaled(heard, fade * self._age(known.reported_at))))

    def _heard(self, known: _Known) -> Tally:
        """What others report, each as far as it is believed; costs are known from them alone."""

        def credit(reporter: str) -> float:
            return self.trust.credit(reporter, of_a_rival=reporter != known.provider)

        return evidence(known.provider, known.reports or {}, self.trust.of, self._rivals(known), credit)

    def _share(self, known: _Known) -> None:
        self._move(known, at_most(self._evidence(known, self._heard(known)), TOOL_SHARE))

    def _move(self, known: _Known, share: Tally) -> None:
        """Let the tool count with that share in its levels."""
        self._levels.move(known.place.levels, self._old_share(known), share)
        known.share, known.shared_at = share, self._clock()

    def _old_share(self, known: _Known) -> Tally:
        return scaled(known.share, self._age(known.shared_at)) if known.share.count else EMPTY
