"""What each reporter said of one tool lately: older executions fade behind newer ones. Pure."""

from collections.abc import Mapping, Sequence

from mcp_federation.contract.messages import Tally
from mcp_federation.estimation import (
    EMPTY,
    MAX_COST,
    MAX_LOG_LATENCY,
    MEMORY,
    at_most,
    faded,
    scaled,
    total,
)

MAX_REPORTERS = 64
"""Of more reporters of one tool, those with the least to say are left out."""

_NOISE_ROOM = 1000.0
"""How far beyond a true sum noise may put one: this many executions."""


class RecentReports:
    """Tallies by reporter, of about the last `MEMORY` executions.

    Whatever callers report makes the other callers' older executions fade as well, so that the tallies
    follow a tool that changed, but none of them below its fair share of `MEMORY`: whoever reports most
    does not silence the rest. What the provider reports of itself fades by itself.
    """

    def __init__(self, provider: str, by_reporter: Mapping[str, Tally] | None = None) -> None:
        self._provider = provider
        self.by_reporter = {name: _bounded(tally) for name, tally in (by_reporter or {}).items()}

    def add(self, reporter: str, tallies: Sequence[Tally]) -> None:
        """Take in what a reporter says, the oldest first."""
        reports = self.by_reporter
        new = total(faded(tally, later) for tally, later in _with_later(tallies))
        later = sum(tally.count for tally in tallies)
        kept = _later(reports.get(reporter, EMPTY), later)
        if reporter != self._provider:
            callers = (reports.keys() | {reporter}) - {self._provider}
            for name in callers - {reporter}:
                reports[name] = _later(reports[name], later, floor=MEMORY / len(callers))
        reports[reporter] = _bounded(at_most(total((kept, at_most(new, MEMORY))), MEMORY))
        for name in sorted(reports, key=lambda name: reports[name].count)[:-MAX_REPORTERS]:
            del reports[name]


def _later(tally: Tally, later: float, floor: float = 0.0) -> Tally:
    """The tally after so many later executions, but worth no less than `floor` of what it was."""
    after = faded(tally, later)
    least = min(tally.count, floor)
    return after if after.count >= least or not tally.count else scaled(tally, least / tally.count)


def _with_later(tallies: Sequence[Tally]) -> list[tuple[Tally, float]]:
    """Each tally with how many executions came after it."""
    pairs, later = [], 0.0
    for tally in reversed(tallies):
        pairs.append((tally, later))
        later += tally.count
    return pairs


def _bounded(tally: Tally) -> Tally:
    """The tally with every sum near what so many executions can have: nobody shouts the others down."""
    room = tally.count + _NOISE_ROOM

    def held(value: float, most: float) -> float:
        return min(max(value, -most * room), most * room)

    return Tally(
        count=tally.count,
        successes=held(tally.successes, 1),
        log_latency=held(tally.log_latency, MAX_LOG_LATENCY),
        log_latency_squares=held(tally.log_latency_squares, MAX_LOG_LATENCY**2),
        cost=min(max(tally.cost, 0.0), MAX_COST * tally.count),
        noise=held(tally.noise, room),
        log_noise=held(tally.log_noise, room),
    )
