"""The Laplace mechanism, by OpenDP; importing it takes 0.2 s and 50 MB, so import it where it is used.

OpenDP samples exactly, so that the last bits of a float tell nothing (Mironov, On Significance of the Least
Significant Bits for Differential Privacy, 2012).
"""

from functools import cache

import opendp.prelude as dp

# OpenDP's own word for what was not yet formally proven by its committee, Laplace included.
dp.enable_features("contrib")


class LaplaceNoise:
    """Hides a change of `sensitivity` (in absolute value) at a privacy loss of `epsilon`."""

    def count(self, value: int, sensitivity: int, epsilon: float) -> int:
        """A whole number with whole noise: the discrete Laplace mechanism (Ghosh and others, 2009)."""
        return int(_discrete(sensitivity, epsilon)(value))

    def real(self, value: float, sensitivity: float, epsilon: float) -> float:
        """A real number with noise."""
        return float(_continuous(sensitivity, epsilon)(value))


@cache
def _discrete(sensitivity: int, epsilon: float) -> dp.Measurement:
    space = dp.atom_domain(T=int), dp.absolute_distance(T=int)
    return dp.m.make_laplace(*space, scale=sensitivity / epsilon)


@cache
def _continuous(sensitivity: float, epsilon: float) -> dp.Measurement:
    space = dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float)
    return dp.m.make_laplace(*space, scale=sensitivity / epsilon)
