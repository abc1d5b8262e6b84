"""The learned order of candidates: a weight for each feature."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from mcp_federation.engine.search.features import FEATURES

Floats = NDArray[np.float32]

FUSION: Mapping[str, float] = {"words": 2.0, "vector": 1.0}
"""The order without learning, which training begins with."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A candidate's score is the sum of its weighted features; the sigmoid of `slope` times the score less
    `middle` is the probability that it serves the request.

    Raises:
        ValueError: a weight is of no known feature.
    """

    weights: Mapping[str, float]
    slope: float
    middle: float

    def __post_init__(self) -> None:
        if unknown := self.weights.keys() - set(FEATURES):
            raise ValueError(f"no such feature: {', '.join(sorted(unknown))}")

    def scores(self, features: Floats) -> Floats:
        """The scores of rows of `FEATURES`."""
        column = np.array([self.weights.get(name, 0.0) for name in FEATURES], dtype=np.float32)
        found: Floats = features @ column
        return found

    def probability(self, score: float) -> float:
        """In (0, 1)."""
        return 1 / (1 + math.exp(-min(15.0, max(-15.0, self.slope * (score - self.middle)))))


@cache
def default_ranking() -> Ranking:
    """The weights that come with the package, see `data/README.md`."""
    stored = (files("mcp_federation.engine.search") / "data" / "ranking.json").read_bytes()
    return msgspec.json.decode(stored, type=Ranking)
