"""What a source of the federated engine's tools is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from mcp_federation.engine.choice.pareto import Performance
from mcp_federation.engine.types import MCPToolSpec

OnChange = Callable[[], None]


class CatalogSource(Protocol):
    """Somebody's tools: a partner's REST face, or a mesh's catalog.

    Of a tool that did not change, `entries` gives the same spec object each time; of one that did, its
    availability included, another.
    """

    @property
    def label(self) -> str:
        """How logs name it; never holds credentials."""
        ...

    async def load(self) -> None:
        """Bring `entries` up to date once, within the source's own deadline, in whatever event loop.

        Raises:
            FederationError: it cannot be reached; its tools are unavailable then.
        """
        ...

    async def start(self, on_change: OnChange) -> None:
        """Follow it live where it can be followed; `on_change` is called after each change of `entries`.

        Raises:
            FederationError: as `load`.
        """
        ...

    async def stop(self) -> None:
        """Follow no longer."""
        ...

    def entries(self) -> Iterable[MCPToolSpec]:
        """The tools as last known, by distinct names."""
        ...

    def performance(self) -> Mapping[str, Performance]:
        """What was measured of tools since it was last asked, by the names of `entries`."""
        ...

    async def execute(self, spec: MCPToolSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one of its tools.

        Raises:
            FederationError: it failed; `NodeUnavailable` and `Overloaded` where it surely did not run.
        """
        ...
