"""Noise by OpenDP; importing it takes 0.2 s and 50 MB, so import it where it is used.

OpenDP samples exactly and in whole numbers, so that no bits of a float tell anything (Mironov, On
Significance of the Least Significant Bits for Differential Privacy, 2012).
"""

from functools import cache

import opendp.prelude as dp

# OpenDP's own word for what was not yet formally proven by its committee, Laplace included.
dp.enable_features("contrib")


AT_ONCE = 64
"""How many draws are made at a time: each costs a tenth of what it does alone."""


class LaplaceNoise:
    """Draws from the discrete Laplace distribution (Ghosh and others, 2009)."""

    def __init__(self) -> None:
        self._drawn: dict[float, list[int]] = {}

    def draw(self, scale: float) -> int:
        """n with a probability in proportion to exp(-|n| / scale)."""
        drawn = self._drawn.setdefault(scale, [])
        if not drawn:
            drawn += _laplace(scale)([0] * AT_ONCE)
        return drawn.pop()


@cache
def _laplace(scale: float) -> dp.Measurement:
    return dp.m.make_laplace(dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int), scale=scale)
