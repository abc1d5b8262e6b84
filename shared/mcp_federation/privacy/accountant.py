"""Keeps the account of a privacy budget. Pure.

Releases about one tool compose sequentially: what they spend adds up (Dwork and Roth, The Algorithmic
Foundations of Differential Privacy, 2014, theorem 3.16). An execution is of one tool only, so tools compose
in parallel: the greatest of their sums is what all of them spend together (McSherry, Privacy Integrated
Queries, 2009, theorem 4).
"""

from collections import deque
from collections.abc import Hashable

_ROUNDING = 1e-9


class Accountant:
    """What was spent under each key in the last `window` seconds; never more than `budget`."""

    def __init__(self, budget: float, window: float) -> None:
        self._budget = budget
        self._window = window
        self._spent: dict[Hashable, deque[tuple[float, float]]] = {}

    def spent(self, key: Hashable, now: float) -> float:
        """What the releases under the key spent in the window that ends at `now`."""
        return sum(epsilon for _, epsilon in self._within(key, now))

    def releases(self, key: Hashable, now: float) -> int:
        """How many releases that were."""
        return len(self._within(key, now))

    def total(self, now: float) -> float:
        """What all releases spent together: the most of any key."""
        return max((self.spent(key, now) for key in list(self._spent)), default=0.0)

    def spend(self, key: Hashable, epsilon: float, now: float) -> bool:
        """Spend, where the budget allows it; whether it did. `now` never goes back."""
        if epsilon <= 0:
            raise ValueError("a release spends something")
        if self.spent(key, now) + epsilon > self._budget * (1 + _ROUNDING):
            return False
        self._spent.setdefault(key, deque()).append((now, epsilon))
        return True

    def _within(self, key: Hashable, now: float) -> deque[tuple[float, float]]:
        spends = self._spent.get(key, deque())
        while spends and spends[0][0] <= now - self._window:
            spends.popleft()
        if not spends:
            self._spent.pop(key, None)
        return spends
