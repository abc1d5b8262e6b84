"""Logistic regression on sparse binary features with an elastic net, by FISTA (Beck and Teboulle, 2009).

Nothing in it is random: the same rows give the same weights.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights by feature, and the intercept."""

    weights: dict[int, float]
    intercept: float


def fit(
    rows: Sequence[frozenset[int]],
    labels: Sequence[bool],
    importance: Sequence[float],
    *,
    l1: float = 3e-5,
    l2: float = 3e-5,
    least: int = 3,
    steps: int = 200,
    floor: float = -0.3,
    start: Fit | None = None,
) -> Fit:
    """The weights that explain the labels best; features in fewer than `least` rows are left out.

    No weight is under `floor`: little that is said beside an attack can speak against it. `start` is a fit
    of similar rows to begin from.
    """
    counts = Counter(chain.from_iterable(rows))
    vocabulary = sorted(feature for feature, count in counts.items() if count >= least)
    size = len(vocabulary)
    matrix = _Matrix(_merged(rows, labels, importance), vocabulary)
    point = np.zeros(size + 1, np.float32)
    if start:
        point = np.array([*map(start.weights.get, vocabulary, [0.0] * size), start.intercept], np.float32)

    # The Hessian is at most the diagonal of its row sums, so that each weight may have a step of its own.
    step = 1 / (matrix.reach() + l2)
    ahead, momentum = point, np.float32(1)
    for _ in range(steps):
        moved = ahead - step * (matrix.gradient(ahead) + l2 * np.append(ahead[:size], 0))
        moved[:size] = np.sign(moved[:size]) * np.maximum(np.abs(moved[:size]) - step[:size] * l1, 0)
        moved[:size] = np.maximum(moved[:size], floor)
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        # Restarted when it overshoots, which keeps the steps from circling.
        if float(((ahead - moved) * (moved - point) / step).sum()) > 0:
            grown, ahead = np.float32(1), moved
        else:
            ahead = moved + (momentum - 1) / grown * (moved - point)
        point, momentum = moved, grown
    weights = {
        feature: float(value) for feature, value in zip(vocabulary, point[:size], strict=True) if value
    }
    return Fit(weights, float(point[size]))


Merged = dict[tuple[bool, frozenset[int]], float]
"""How much each row counts with its label: equal ones are one."""


def _merged(rows: Sequence[frozenset[int]], labels: Sequence[bool], importance: Sequence[float]) -> Merged:
    merged: Merged = {}
    for row, label, weight in zip(rows, labels, importance, strict=True):
        merged[label, row] = merged.get((label, row), 0.0) + weight
    return merged


class _Matrix:
    """The rows by the columns of a vocabulary, read along either: sums over slices are quicker than bins."""

    def __init__(self, merged: Merged, vocabulary: Sequence[int]) -> None:
        column = {feature: number for number, feature in enumerate(vocabulary)}
        known = [[column[feature] for feature in row if feature in column] for _, row in merged]
        self._target = np.array([label for label, _ in merged], np.float32)
        share = np.array(list(merged.values()))
        self._share = (share / share.sum()).astype(np.float32)
        self._lengths = np.array([len(row) for row in known])
        self._columns = np.fromiter(chain.from_iterable(known), np.int32)
        self._row_starts = np.cumsum(self._lengths) - self._lengths
        owner = np.repeat(np.arange(len(known), dtype=np.int32), self._lengths)
        by_column = np.argsort(self._columns, kind="stable")
        self._owner = owner[by_column]
        self._column_starts = np.searchsorted(self._columns[by_column], np.arange(len(vocabulary)))

    def gradient(self, point: Array) -> Array:
        """Of the loss, by each weight and by the intercept."""
        # A slice that would be empty gives its first element instead; one more keeps the last in bounds.
        picked = np.append(point[self._columns], np.float32(0))
        scores = np.add.reduceat(picked, self._row_starts)
        scores = np.where(self._lengths > 0, scores, 0) + point[-1]
        error = self._share * (1 / (1 + np.exp(-np.clip(scores, -40, 40))) - self._target)
        return self._by_column(error)

    def reach(self) -> Array:
        """Row sums of the Hessian at its largest."""
        return self._by_column(self._share * (self._lengths + 1).astype(np.float32) / 4)

    def _by_column(self, values: Array) -> Array:
        return np.append(np.add.reduceat(values[self._owner], self._column_starts), values.sum())
