"""How long the stages of the pipeline take."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter


@dataclass(slots=True)
class Durations:
    """Count, sum, least, greatest and last of some durations in ms."""

    count: int = 0
    total: float = 0.0
    least: float = 0.0
    greatest: float = 0.0
    latest: float = 0.0

    def add(self, duration: float) -> None:
        """Take one more, in ms."""
        self.least = min(self.least, duration) if self.count else duration
        self.greatest = max(self.greatest, duration)
        self.count += 1
        self.total += duration
        self.latest = duration

    def summary(self) -> dict[str, float]:
        """`count`, and `average_ms`, `min_ms`, `max_ms`, `latest_ms`."""
        return {
            "count": self.count,
            "average_ms": self.total / self.count if self.count else 0.0,
            "min_ms": self.least,
            "max_ms": self.greatest,
            "latest_ms": self.latest,
        }


class Stopwatch:
    """The durations of one run, in ms, by stage."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self.laps: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Ms since the start."""
        return (perf_counter() - self._start) * 1000

    @contextmanager
    def lap(self, stage: str) -> Iterator[None]:
        """Time what is inside as that stage."""
        start = self.elapsed
        yield
        self.laps[stage] = self.elapsed - start
