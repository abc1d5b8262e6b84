"""How far each reporter is believed: by how it agrees with everybody else on the same tools. Pure."""

import math
from collections.abc import Collection, Mapping
from heapq import nlargest
from statistics import fmean, median_low
from typing import NamedTuple

from mcp_federation.contract.messages import Tally
from mcp_federation.estimation import MAX_LOG_LATENCY, OWN_WEIGHT

TOLERANCE = 4.0
"""Squared standard errors that a report may be off without losing trust: two sigma."""

DOUBTS = 2.0
"""With how many tools on which it agrees a reporter earns most of its trust."""

BENEFIT = 0.0, 0.0
"""Tools of which it is assumed that a reporter agrees on them: one that just changed is no lie."""

MIN_OTHERS = 2.0
"""Executions that a witness must have seen before a report is compared with it."""

DISTANCE = 3.0
NETWORK_MS = 200.0
"""How many times slower, and by how many ms more, the same tool may be for one that is further away."""

SPREAD = 0.5
"""The variance of ln(latency) between calls of one tool."""

MAX_WITNESSES = 9
"""Reports, those of the most executions, with which each is compared; and with our own."""

RIVALS_DOUBTS = 2.0
"""The odds that a reporter is right beyond which it is heard about its rivals: it agreed on three tools."""

CONTRADICTION = 2.0
"""Squared standard errors between what we saw and what we heard, beyond which we believe what we saw."""

_OURSELVES = ""


class View(NamedTuple):
    """A share of success and a mean ln(latency), with the variances of what is known of them.

    `slowest` is the ln(latency) that the same tool may have for one that is further away.
    """

    success: float
    success_variance: float
    log_latency: float
    log_variance: float
    slowest: float


class ReporterTrust:
    """Trust in (0, 1) by reporter: it is earned by agreeing, and lost by disagreeing.

    A report of success and latency is compared with what each other caller, and we ourselves, saw of the
    tool; the provider's own word is no witness, but is compared with them. What counts is the median of the
    squared standard errors between them: who agrees with most is right. Trust is (1 + n) / (3 + n) after
    comparisons on n tools, and that divided by 1 + the median excess over the tools of others, as to be wrong
    about one that just changed is no lie, or 1 + the mean excess over its own, whose executions it sees
    all, what is more. Of two alone that contradict each other either may be wrong, and both lose; what
    we saw ourselves decides.
    """

    def __init__(self) -> None:
        self._of_others: dict[str, dict[str, float]] = {}
        self._of_itself: dict[str, dict[str, float]] = {}
        self._trust: dict[str, float] = {}

    def of(self, reporter: str) -> float:
        """The trust in a reporter."""
        known = self._trust.get(reporter)
        if known is None:
            known = self._trust[reporter] = self._judged(reporter)
        return known

    def credit(self, reporter: str, *, of_a_rival: bool) -> float:
        """How many executions its word counts for where it gains from it: about itself, or a rival.

        It grows with the odds that it is right, by which who agreed on n tools has earned (1 + n) / 2. To be
        believed about a rival takes more, as what is never called can never show that it is good; and it
        stays at `OWN_WEIGHT`, as one smear costs no trust.
        """
        trust = self.of(reporter)
        odds = trust / (1 - trust)
        return OWN_WEIGHT * (min(max(0.0, odds - RIVALS_DOUBTS), 1.0) if of_a_rival else odds)

    def _judged(self, reporter: str) -> float:
        others = self._of_others.get(reporter, {})
        itself = self._of_itself.get(reporter, {})
        n = len(others) + len(itself)
        earned = (1 + n) / (DOUBTS + 1 + n)
        wrong = median_low((*BENEFIT, *others.values()))
        return earned / (1 + max(wrong, fmean(itself.values()) if itself else 0.0))

    def compare(
        self,
        tool: str,
        provider: str,
        reports: Mapping[str, Tally],
        own: Tally,
        rivals: Collection[str] = (),
    ) -> None:
        """Compare the reports on a tool with each other; those who offer the like are no witnesses."""
        interested = {provider, *rivals}
        witnesses = {reporter: tally for reporter, tally in reports.items() if reporter not in interested}
        most = nlargest(MAX_WITNESSES, witnesses.items(), key=lambda item: item[1].count)
        views = {reporter: _view(tally) for reporter, tally in reports.items() if tally.count > 0}
        known = {reporter: views[reporter] for reporter, tally in most if tally.count >= MIN_OTHERS}
        if own.count >= MIN_OTHERS:
            known[_OURSELVES] = _view(own)
        for reporter, view in views.items():
            errors = [_squared_errors(view, other) for name, other in known.items() if name != reporter]
            if errors:
                excess = max(0.0, median_low(errors) - TOLERANCE)
                about = self._of_itself if reporter == provider else self._of_others
                wrong = about.setdefault(reporter, {})
                if wrong.get(tool) != excess:
                    wrong[tool] = excess
                    self._trust.pop(reporter, None)


def agreement(seen: Tally, heard: Tally) -> float:
    """How much of its weight, from 0 to 1, what was heard of a tool keeps beside what was seen of it.

    A power prior (Ibrahim and Chen, 2000) by how far both can be about the same tool, which may have changed
    since it was heard of.
    """
    if min(seen.count, heard.count) < MIN_OTHERS:
        return 1.0
    return 1 / (1 + max(0.0, _squared_errors(_view(seen), _view(heard)) - CONTRADICTION))


def _squared_errors(one: View, other: View) -> float:
    """How many standard errors apart the two are, squared: in success or in latency, what is more."""
    success = (one.success - other.success) ** 2 / (one.success_variance + other.success_variance)
    apart = max(0.0, one.log_latency - other.slowest, other.log_latency - one.slowest)
    return max(success, apart**2 / (one.log_variance + other.log_variance))


def _view(tally: Tally) -> View:
    """What a tally says, noise included; the share by Agresti and Coull (1998), two of each added."""
    n = tally.count + 4
    successes = min(max(tally.successes, 0.0), tally.count)
    share = (successes + 2) / n
    known = successes >= 1
    log_latency = min(max(tally.log_latency / successes, 0.0), MAX_LOG_LATENCY) if known else 0.0
    return View(
        share,
        share * (1 - share) / n + tally.noise / n**2,
        log_latency,
        SPREAD / successes + tally.log_noise / successes**2 if known else math.inf,
        math.log(DISTANCE * math.exp(log_latency) + NETWORK_MS),
    )
