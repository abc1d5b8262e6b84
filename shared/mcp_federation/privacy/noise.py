"""Noise by OpenDP; importing it takes 0.2 s and 50 MB, so import it where it is used.

OpenDP samples exactly and in whole numbers, so that no bits of a float tell anything (Mironov, On
Significance of the Least Significant Bits for Differential Privacy, 2012).
"""

from functools import cache

import opendp.prelude as dp

# OpenDP's own word for what was not yet formally proven by its committee, Laplace included.
dp.enable_features("contrib")


class LaplaceNoise:
    """Draws from the discrete Laplace distribution (Ghosh and others, 2009)."""

    def draw(self, scale: float) -> int:
        """n with a probability in proportion to exp(-|n| / scale)."""
        return int(_laplace(scale)(0))


@cache
def _laplace(scale: float) -> dp.Measurement:
    return dp.m.make_laplace(dp.atom_domain(T=int), dp.absolute_distance(T=int), scale=scale)
