"""An organisation's policy of sharing what its processes learn of tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mcp_federation.errors import InvalidRequest
from mcp_federation.settings import Settings, Sharing


@dataclass(frozen=True, slots=True)
class SharingPolicy:
    """What leaves, and how well it hides a single execution.

    Of statistics, each release is about at least `k` executions and spends `epsilon`; all that one process
    releases of one tool spends at most `budget` in any `window` (seconds), by the account in that file; with
    none, by one that is forgotten with the process.

    Raises:
        ValueError: a figure is out of its range, or the budget does not cover one release.
    """

    sharing: Sharing = "statistics"
    k: int = 20
    epsilon: float = 1.0
    budget: float = 20.0
    window: float = 86_400.0
    account: Path | None = None

    def __post_init__(self) -> None:
        if self.k < 2 or not 0 < self.epsilon <= self.budget or self.window <= 0:
            raise ValueError("k must be 2 or more, and 0 < epsilon <= budget, and the window be positive")

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The policy that the settings state.

        Raises:
            InvalidRequest: its budget does not cover one release.
        """
        try:
            return cls(
                sharing=settings.sharing,
                k=settings.privacy_k,
                epsilon=settings.privacy_epsilon,
                budget=settings.privacy_budget,
                account=settings.state_dir / f"privacy-{settings.node}.db",
            )
        except ValueError as error:
            raise InvalidRequest(f"bad privacy settings: {error}") from None
