"""Interleaved rounds: everything is measured once a round, so that a slow minute hits all alike."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.load import Sample

T = TypeVar("T")


def turn(items: Sequence[T], number: int) -> list[T]:
    """The order of one round: each begins with another, so that none always follows the same one."""
    if not items:
        return []
    start = number % len(items)
    return [*items[start:], *items[:start]]


def median(values: Sequence[float]) -> float:
    """The median of those that are numbers; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


@dataclass
class Cell:
    """What all rounds gave for one target at one size and one number in flight.

    Latencies in seconds, CPU in seconds per 1,000 calls by process.
    """

    rates: list[float] = field(default_factory=list)
    p50s: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    calls: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, sample: Sample, cpu: Mapping[str, float]) -> None:
        """Take in one round: its sample, and the CPU seconds that each process used meanwhile."""
        calls = len(sample.latencies)
        self.calls += calls
        self.errors += sample.errors
        self.rates.append(sample.rate)
        self.p50s.append(sample.percentile(0.50))
        self.p99s.append(sample.percentile(0.99))
        for name, seconds in cpu.items():
            self.cpu.setdefault(name, []).append(1000 * seconds / calls if calls else math.nan)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return median(self.rates)

    @property
    def p50(self) -> float:
        """Half of the calls took no longer."""
        return median(self.p50s)

    @property
    def p99(self) -> float:
        """99 of 100 calls took no longer."""
        return median(self.p99s)

    @property
    def cpu_by_process(self) -> dict[str, float]:
        """CPU seconds per 1,000 calls of each process that used any, most first."""
        medians = {name: median(values) for name, values in self.cpu.items()}
        used = {name: value for name, value in medians.items() if value > 0}
        return dict(sorted(used.items(), key=lambda item: -item[1]))

    @property
    def cpu_total(self) -> float:
        """CPU seconds per 1,000 calls over all processes."""
        return median([sum(each) for each in zip(*self.cpu.values(), strict=True)])


def ratio(ours: Cell, theirs: Cell) -> float:
    """Our rate over theirs: the median over the rounds, each of which compares neighbours in time."""
    pairs = zip(ours.rates, theirs.rates, strict=False)
    return median([our / their if their else math.nan for our, their in pairs])


def added_latency(ours: Cell, theirs: Cell) -> float:
    """Seconds that our p50 lies above theirs: the median over the rounds."""
    return median([our - their for our, their in zip(ours.p50s, theirs.p50s, strict=False)])
