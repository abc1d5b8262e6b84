"""A histogram of executions that hides each of them: failed, fast or slow. Pure.

An execution is one whole in three cells: all of it in `failed`, or divided between `fast` and `slow` by where
its latency lies. Replace it by another and at most one whole moves from some cells to others; how many there
are stays. The noise moves wholes likewise: three draws of Laplace noise on the condition that they add up to
nothing. Its density falls by e^epsilon for each whole moved, which is differential privacy at epsilon for all
three cells together: the K-norm mechanism (Hardt and Talwar, On the Geometry of Differential Privacy, 2010).
To share epsilon out between an outcome and a latency takes 2.4 and 3.2 times the variance.
"""

from dataclasses import dataclass
from typing import Protocol

PARTS = 64
"""Of how many parts a whole is, so that all is counted in whole numbers."""

MOVED_VARIANCE = 10 / 3
BALANCE_VARIANCE = 10.0
"""The variance of the noise of epsilon = 1 in `failed`, and in `slow - fast`, in wholes (uniform on a hexagon
with a radius of Gamma(3, 1); on the grid next to nothing less)."""


class Noise(Protocol):
    """Draws discrete Laplace noise; see `noise.LaplaceNoise`."""

    def draw(self, scale: float) -> int:
        """n with a probability in proportion to exp(-|n| / scale)."""
        ...


@dataclass(slots=True)
class Histogram:
    """Executions, in parts of a whole."""

    failed: int = 0
    fast: int = 0
    slow: int = 0

    def add_failure(self) -> None:
        """Count an execution that failed."""
        self.failed += PARTS

    def add_success(self, slowness: float) -> None:
        """Count one that succeeded, with its latency from -1, as fast as counts, to 1; beyond it is held."""
        slow = round((min(max(slowness, -1.0), 1.0) + 1) / 2 * PARTS)
        self.slow += slow
        self.fast += PARTS - slow

    def noisy(self, noise: Noise, epsilon: float) -> "Histogram":
        """What of it may be told at a privacy loss of epsilon; cells may be negative."""
        failed, fast, slow = moved(noise, epsilon)
        return Histogram(self.failed + failed, self.fast + fast, self.slow + slow)

    @property
    def successes(self) -> float:
        """How many succeeded."""
        return (self.fast + self.slow) / PARTS

    @property
    def slowness(self) -> float:
        """The sum of what was added as slowness."""
        return (self.slow - self.fast) / PARTS


def moved(noise: Noise, epsilon: float) -> tuple[int, int, int]:
    """Parts to move among the cells: (a, b, c) of sum 0, in proportion to exp(-(|a| + |b| + |c|) / scale).

    Two draws give a and b. They are kept with probability exp(-|a + b| / scale), up to a constant: that of a
    third draw to be at least |a + b|. About one of four is.
    """
    scale = 2 * PARTS / epsilon
    while True:
        a, b = noise.draw(scale), noise.draw(scale)
        if noise.draw(scale) >= abs(a + b):
            return a, b, -(a + b)
