"""Which of a tool's providers a call goes to: the cheaper of two, and none that has stopped to answer. Pure.

The cost of a provider is `(our calls in flight + 1) x latency / success`. Two random providers are compared
rather than all (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001): callers that
know the same old figures would otherwise all go to the same winner. Latency and success are what this client
saw, fading within a minute into what the mesh measured.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum, auto
from math import exp
from typing import Protocol

from mcp_federation.catalog.state import CatalogTool
from mcp_federation.errors import (
    DeadlineExceeded,
    FederationError,
    InternalError,
    NodeLost,
    NodeUnavailable,
    OutcomeForgotten,
    Overloaded,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
)

HOME_BIAS = 0.25
"""The home node's cost counts a quarter: it is left once it costs four times as much as another."""

EXPLORE = 0.02
"""How often the dearer of the two is taken, or nobody would learn that it has become better."""

UNKNOWN_LATENCY = 0.001
"""Seconds that a provider is taken to need of which nothing is known: it is worth a try."""

UNANSWERED_LATENCY = 1.0
"""Seconds for one that has answered nothing but refusals."""

MIN_LATENCY = 0.0001
MIN_SUCCESS = 0.05
MEMORY = 60.0
"""Seconds in which what this client saw loses its weight (to 1/e) against what the mesh measured."""

MIN_WEIGHT = 0.1
WINDOW = 10.0
"""A new sample weighs `MIN_WEIGHT`, and more the longer there was none: all after `WINDOW` seconds."""

FAILURES = 5
"""So many failures without an answer between them open the circuit."""

FAIR_TIME = 1.0
"""A deadline sooner than these seconds is the caller's haste and says nothing against the provider."""

FIRST_PAUSE = 1.0
MAX_PAUSE = 15.0
MAX_PROVIDERS = 10_000


class Figures(Protocol):
    """What the mesh measured."""

    def get(self, node: str, tool: str) -> tuple[float, float] | None:
        """Its success, in [0, 1], and its median latency in ms; None where nothing is known."""


class _Outcome(Enum):
    ANSWERED = auto()
    REFUSED = auto()
    FAILED = auto()
    NO_MATTER = auto()


_ANSWERS = (ToolFailed, OutcomeForgotten)
"""The provider did its part."""

_FAILURES = (NodeUnavailable, ServerUnavailable, NodeLost, InternalError, ToolNotFound)
"""The provider did not, and the next call is likely to meet the same."""


def _outcome(seconds: float, error: FederationError | None) -> _Outcome:
    if error is None or isinstance(error, _ANSWERS):
        return _Outcome.ANSWERED
    if isinstance(error, Overloaded):
        return _Outcome.REFUSED  # it lives, and has said when to come again: no reason for a circuit to open
    if isinstance(error, _FAILURES) or (isinstance(error, DeadlineExceeded) and seconds >= FAIR_TIME):
        return _Outcome.FAILED
    return _Outcome.NO_MATTER  # wrong arguments, a cancel, our own connection


class _Seen:
    """What this client saw of one provider. The circuit is open while `retry_at` is not 0."""

    __slots__ = ("failures", "in_flight", "latency", "pause", "probing", "retry_at", "seen_at", "success")

    def __init__(self) -> None:
        self.in_flight = 0
        self.latency: float | None = None
        self.success = 1.0
        self.seen_at: float | None = None
        self.failures = 0
        self.pause = FIRST_PAUSE
        self.retry_at = 0.0
        self.probing = False

    def sample(self, now: float, success: float, latency: float | None) -> None:
        weight = 1.0 if self.seen_at is None else min(1.0, MIN_WEIGHT + (now - self.seen_at) / WINDOW)
        self.success += (success - self.success) * weight
        if latency is not None:
            known = latency if self.latency is None else self.latency
            self.latency = known + (latency - known) * weight
        self.seen_at = now

    def begin(self, now: float) -> None:
        self.in_flight += 1
        if self.retry_at and now >= self.retry_at:
            self.probing = True
            # Not the next call too; and not never again, should this one's end never be told.
            self.retry_at = now + self.pause

    def close(self) -> None:
        self.failures, self.pause, self.retry_at, self.probing = 0, FIRST_PAUSE, 0.0, False

    def fail(self, now: float, jitter: float) -> None:
        self.failures += 1
        if self.probing:
            self.pause = min(self.pause * 2, MAX_PAUSE)
        elif self.retry_at or self.failures < FAILURES:
            return  # of calls that were under way as it opened one hears nothing new
        self.probing = False
        self.retry_at = now + self.pause * jitter

    def probe_again(self, now: float) -> None:
        if self.probing:
            self.probing, self.retry_at = False, now


class Balancer:
    """Chooses providers, and learns from what became of the calls; one for each client.

    `home` names the node that is preferred, by `HOME_BIAS`; `explore` is how often chance decides; `clock`
    gives seconds.
    """

    def __init__(
        self,
        figures: Figures | None = None,
        *,
        home: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        explore: float = EXPLORE,
        max_providers: int = MAX_PROVIDERS,
    ) -> None:
        self._figures = figures
        self.home = home
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._explore = explore
        self._max_providers = max_providers
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def __len__(self) -> int:
        """Of how many providers something is remembered."""
        return len(self._seen)

    def order(self, providers: Sequence[CatalogTool]) -> list[CatalogTool]:
        """The same executable providers, the one to ask first in front.

        One whose circuit is open comes last; when its pause is over it comes first, for one call.
        """
        if len(providers) < 2:
            return list(providers)
        now = self._clock()
        shuffled = list(providers)
        self._rng.shuffle(shuffled)
        due: list[CatalogTool] = []
        closed: list[CatalogTool] = []
        waiting: list[CatalogTool] = []
        for tool in shuffled:
            seen = self._seen.get(_key(tool))
            if seen is None or not seen.retry_at:
                closed.append(tool)
            else:
                (due if now >= seen.retry_at else waiting).append(tool)
        self._cheaper_first(closed, now)
        return due[:1] + closed + due[1:] + waiting

    def started(self, tool: CatalogTool) -> None:
        """A call goes to that provider; `finished` must follow."""
        key = _key(tool)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen()
            if len(self._seen) > self._max_providers:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(key)
        seen.begin(self._clock())

    def finished(self, tool: CatalogTool, seconds: float, error: FederationError | None = None) -> None:
        """What became of it, after so many seconds; the error that the call ended with, if any."""
        seen = self._seen.get(_key(tool))
        if seen is None:
            return
        seen.in_flight = max(0, seen.in_flight - 1)
        now = self._clock()
        outcome = _outcome(seconds, error)
        if outcome is _Outcome.ANSWERED:
            seen.sample(now, 1.0, seconds)
            if seen.failures:
                seen.close()
        elif outcome is _Outcome.FAILED:
            # A quick failure is no low latency; a missed deadline is a high one.
            seen.sample(now, 0.0, seconds if isinstance(error, DeadlineExceeded) else None)
            seen.fail(now, self._rng.uniform(0.5, 1.0))
        else:
            if outcome is _Outcome.REFUSED:
                seen.sample(now, 0.0, None)
            seen.probe_again(now)

    def _cheaper_first(self, tools: list[CatalogTool], now: float) -> None:
        """One pass over random neighbours: the cheaper goes ahead, the dearer meets the next."""
        if len(tools) < 2 or self._rng.random() < self._explore:
            return
        if self.home is not None:
            # Home is always one of the first two.
            home = next((index for index, tool in enumerate(tools) if tool.node == self.home), 0)
            tools[0], tools[home] = tools[home], tools[0]
        cost = self._cost(tools[0], now)
        for index in range(1, len(tools)):
            other = self._cost(tools[index], now)
            if other < cost:
                tools[index - 1], tools[index] = tools[index], tools[index - 1]
            else:
                cost = other

    def _cost(self, tool: CatalogTool, now: float) -> float:
        success, latency, in_flight = 1.0, UNKNOWN_LATENCY, 0
        figures = self._figures.get(tool.node, tool.name) if self._figures is not None else None
        if figures is not None:
            success, latency = figures[0], figures[1] / 1000
        seen = self._seen.get(_key(tool))
        if seen is not None:
            in_flight = seen.in_flight
            if seen.seen_at is not None:
                trust = exp((seen.seen_at - now) / MEMORY)
                success += (seen.success - success) * trust
                own = max(latency, UNANSWERED_LATENCY) if seen.latency is None else seen.latency
                latency += (own - latency) * trust
        cost = (in_flight + 1) * max(latency, MIN_LATENCY) / max(success, MIN_SUCCESS)
        return cost * HOME_BIAS if tool.node == self.home else cost


def _key(tool: CatalogTool) -> str:
    # Of one tool on one node alone, and a string knows its hash: half the cost of a tuple of names.
    return tool.entry.execute_subject or ""
