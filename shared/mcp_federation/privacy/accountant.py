"""Keeps the account of a privacy budget, in a file that outlives the process.

Releases about one tool compose sequentially: what they spend adds up (Dwork and Roth, The Algorithmic
Foundations of Differential Privacy, 2014, theorem 3.16). An execution is of one tool only, so tools compose
in parallel: the greatest of their sums is what all of them spend together (McSherry, Privacy Integrated
Queries, 2009, theorem 4).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from weakref import finalize

from mcp_federation.errors import InternalError

LOCK_TIMEOUT = 0.05
"""Seconds that a round of releases waits for another process of the organisation; the next round is soon."""

KEPT_WINDOWS = 7
"""Windows for which a release is kept, though it counts in one: a clock that was ahead may be set back."""

_ROUNDING = 1e-9
_SCHEMA = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS spent (key TEXT NOT NULL, at REAL NOT NULL, epsilon REAL NOT NULL);
    CREATE INDEX IF NOT EXISTS spent_by_key ON spent (key);
    CREATE INDEX IF NOT EXISTS spent_by_time ON spent (at);
"""


class Accountant:
    """What was spent under each key in the last `window` seconds; never more than `budget`.

    Processes that name one file share one account. Times are those of the wall clock: one that is set back
    finds what was spent in its future still spent, and what was spent before it went ahead, unless that was
    by more than `KEPT_WINDOWS` - 1 windows.

    It is used inside `with`: a round of releases, in which the other processes wait. What is spent in a round
    is on disk when it ends, or was not spent at all.

    Raises:
        InternalError: the file cannot be used; from `with`, and from every member in it.
    """

    def __init__(self, budget: float, window: float, file: Path | None = None) -> None:
        self._budget = budget
        self._window = window
        self._name = file
        self._open: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Begin a round."""
        with _failing_closed():
            self._file.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """End it; an error undoes it."""
        with _failing_closed():
            self._file.execute("COMMIT" if error is None else "ROLLBACK")

    def spent(self, key: str, now: float) -> float:
        """What the releases under the key spent in the window that ends at `now`."""
        return self._within(key, now)[1]

    def releases(self, key: str, now: float) -> int:
        """How many releases that were."""
        return self._within(key, now)[0]

    def spend(self, key: str, epsilon: float, now: float) -> bool:
        """Spend, where the budget allows it; whether it did."""
        if epsilon <= 0:
            raise ValueError("a release spends something")
        if self.spent(key, now) + epsilon > self._budget * (1 + _ROUNDING):
            return False
        with _failing_closed():
            self._file.execute("DELETE FROM spent WHERE at <= ?", (now - KEPT_WINDOWS * self._window,))
            self._file.execute("INSERT INTO spent VALUES (?, ?, ?)", (key, now, epsilon))
        return True

    def close(self) -> None:
        """Let go of the file; the next round opens it again."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    @property
    def _file(self) -> sqlite3.Connection:
        if self._open is None:
            if self._name is not None:
                self._name.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            opened = sqlite3.connect(
                self._name or ":memory:",
                timeout=LOCK_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,  # the collector, which closes it at last, runs in any
            )
            try:
                opened.executescript(_SCHEMA)
            except BaseException:
                opened.close()
                raise
            self._open = opened
            finalize(self, opened.close)  # of an account that nobody closes, as one in memory
        return self._open

    def _within(self, key: str, now: float) -> tuple[int, float]:
        with _failing_closed():
            found = self._file.execute(
                "SELECT count(*), total(epsilon) FROM spent WHERE key = ? AND at > ?",
                (key, now - self._window),
            )
            releases, spent = found.fetchone()
        return int(releases), float(spent)


@contextmanager
def _failing_closed() -> Iterator[None]:
    """What the account does not know, nobody may spend."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise InternalError("the privacy account cannot be read or written") from error
