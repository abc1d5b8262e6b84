"""What a check is, and how the checks of one suite are listed and run. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from mcp_federation.contract.messages import Finding, Registration, Severity
from mcp_federation.governance.checks.reading import Reading, read

MAX_FINDINGS = 10
"""The most findings of one rule in a verdict; a text full of them is not listed line by line."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One place where a check's rule is broken, and why it is.

    `probability` and `words` are the detector's: how likely it is an attack, and what says so.
    """

    where: str
    why: str
    probability: float | None = None
    words: tuple[str, ...] = ()


Search = Callable[[Reading], Iterable[Sighting]]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule: what it is called, how bad it is, why it is there, how to mend, and how it is found."""

    rule: str
    severity: Severity
    rationale: str
    remedy: str
    search: Search

    def __call__(self, registration: Registration) -> list[Finding]:
        """The findings of this check alone."""
        return self.findings(read(registration))

    def findings(self, reading: Reading) -> list[Finding]:
        """At most `MAX_FINDINGS` findings, the first ones."""
        return list(map(self._finding, islice(self.search(reading), MAX_FINDINGS)))

    def _finding(self, sighting: Sighting) -> Finding:
        return Finding(
            rule=self.rule,
            severity=self.severity,
            where=sighting.where,
            why=sighting.why,
            remedy=self.remedy,
            probability=sighting.probability,
            words=sighting.words,
        )


def check(rule: str, severity: Severity, *, rationale: str, remedy: str) -> Callable[[Search], Check]:
    """Decorator: the search as a check of that rule."""
    return partial(Check, rule, severity, rationale, remedy)


class Suite:
    """The checks of one suite by their rules, in the order in which they are run."""

    def __init__(self, *checks: Check) -> None:
        self._checks = {check.rule: check for check in checks}
        if len(self._checks) < len(checks):
            raise ValueError("two checks have the same rule")

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks.values())

    def __getitem__(self, rule: str) -> Check:
        return self._checks[rule]

    def run(self, reading: Reading) -> list[Finding]:
        """What all checks find, check by check."""
        found: list[Finding] = []
        for check in self._checks.values():
            found += check.findings(reading)
        return found
