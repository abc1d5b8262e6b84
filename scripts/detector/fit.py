"""Logistic regression on sparse binary features with an elastic net, by FISTA (Beck and Teboulle, 2009).

Nothing in it is random: the same rows give the same weights.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights by feature, and the intercept."""

    weights: dict[int, float]
    intercept: float


def fit(
    rows: Sequence[set[int]],
    labels: Sequence[bool],
    importance: Sequence[float],
    *,
    l1: float = 3e-5,
    l2: float = 3e-5,
    least: int = 3,
    steps: int = 200,
    floor: float = -0.3,
) -> Fit:
    """The weights that explain the labels best; features in fewer than `least` rows are left out.

    No weight is under `floor`: little that is said beside an attack can speak against it.
    """
    counts = Counter(feature for row in rows for feature in row)
    vocabulary = sorted(feature for feature, count in counts.items() if count >= least)
    column = {feature: number for number, feature in enumerate(vocabulary)}
    known = [[column[feature] for feature in sorted(row) if feature in column] for row in rows]
    lengths = np.array([len(row) for row in known])
    columns = np.concatenate([np.array(row, dtype=np.int64) for row in known if row])
    owner = np.repeat(np.arange(len(rows)), lengths)
    target = np.array(labels, dtype=float)
    share = np.array(importance, dtype=float)
    share /= share.sum()
    size = len(vocabulary)

    def scores(point: Array) -> Array:
        return np.bincount(owner, weights=point[columns], minlength=len(rows)) + point[size]

    def gradient(point: Array) -> Array:
        error = share * (1 / (1 + np.exp(-np.clip(scores(point), -40, 40))) - target)
        slope = np.bincount(columns, weights=error[owner], minlength=size) + l2 * point[:size]
        return np.append(slope, error.sum())

    # The Hessian is at most the diagonal of its row sums, so that each weight may have a step of its own.
    reach = share * (lengths + 1) / 4
    step = 1 / (np.append(np.bincount(columns, weights=reach[owner], minlength=size), reach.sum()) + l2)
    point = ahead = np.zeros(size + 1)
    momentum = 1.0
    for _ in range(steps):
        moved = ahead - step * gradient(ahead)
        moved[:size] = np.sign(moved[:size]) * np.maximum(np.abs(moved[:size]) - step[:size] * l1, 0)
        moved[:size] = np.maximum(moved[:size], floor)
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        # Restarted when it overshoots, which keeps the steps from circling.
        if float(((ahead - moved) * (moved - point) / step).sum()) > 0:
            grown, ahead = 1.0, moved
        else:
            ahead = moved + (momentum - 1) / grown * (moved - point)
        point, momentum = moved, grown
    weights = {
        feature: float(value) for feature, value in zip(vocabulary, point[:size], strict=True) if value
    }
    return Fit(weights, float(point[size]))
