"""How far each reporter is believed: by how it agrees with everybody else on the same tools. Pure."""

from collections.abc import Mapping
from statistics import median_low
from typing import NamedTuple

from mcp_federation.contract.messages import Tally

TOLERANCE = 4.0
"""Squared standard errors that a report may be off without losing trust: two sigma."""

MIN_OTHERS = 5.0
"""Executions that a witness must have seen before a report is compared with it."""

_OURSELVES = ""


class Share(NamedTuple):
    """A share of success and the variance of what is known of it."""

    mean: float
    variance: float


class ReporterTrust:
    """Trust in (0, 1] by reporter: 1 until one disagrees with the others.

    A report is compared with what each other caller, and we ourselves, saw of the tool; the provider's own
    word is no witness, but is compared with them. What counts is the median of the squared standard errors
    between them: who agrees with most is right. Trust is 1 / (1 + the mean excess over the reporter's tools).
    Of two alone that contradict each other either may be wrong, and both lose; what we saw ourselves decides.
    """

    def __init__(self) -> None:
        self._excess: dict[str, dict[str, float]] = {}

    def of(self, reporter: str) -> float:
        """The trust in a reporter."""
        excess = self._excess.get(reporter)
        return 1 / (1 + sum(excess.values()) / len(excess)) if excess else 1.0

    def compare(self, tool: str, provider: str, reports: Mapping[str, Tally], own: Tally) -> None:
        """Compare the reports on a tool with each other."""
        witnesses = {reporter: tally for reporter, tally in reports.items() if reporter != provider}
        witnesses[_OURSELVES] = own
        shares = {name: _share(tally) for name, tally in witnesses.items() if tally.count >= MIN_OTHERS}
        for reporter, tally in reports.items():
            errors = [
                _squared_errors(_share(tally), share) for name, share in shares.items() if name != reporter
            ]
            if errors and tally.count > 0:
                excess = max(0.0, median_low(errors) - TOLERANCE)
                self._excess.setdefault(reporter, {})[tool] = excess


def _squared_errors(one: Share, other: Share) -> float:
    """How many standard errors apart the two are, squared."""
    return (one.mean - other.mean) ** 2 / (one.variance + other.variance)


def _share(tally: Tally) -> Share:
    """The share of success, noise included, by Agresti and Coull (1998): two of each added."""
    n = tally.count + 4
    share = (min(max(tally.successes, 0.0), tally.count) + 2) / n
    return Share(share, share * (1 - share) / n + tally.noise / n**2)
