"""The tools of several sources, brought into one registry, and run where they are."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from mcp_federation.engine.choice.pareto import Performance
from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.sources.source import CatalogSource
from mcp_federation.engine.sources.upkeep import Upkeep
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.errors import DeadlineExceeded, FederationError, NodeUnavailable, ServerUnavailable
from mcp_federation.logs import get_logger

log = get_logger("engine")


class Supply:
    """Sources, each by its label once. Of two tools of one name the one that is there first stays."""

    def __init__(self, sources: Iterable[CatalogSource]) -> None:
        self._sources: dict[str, CatalogSource] = {}
        for source in sources:
            self._sources.setdefault(source.label, source)
        self._owned: dict[str, dict[str, MCPToolSpec]] = {label: {} for label in self._sources}
        self._measured: dict[str, dict[str, Performance]] = {label: {} for label in self._sources}
        self._owners: dict[str, CatalogSource] = {}
        self._clashes: set[tuple[str, str]] = set()
        self._changed: set[str] = set()
        self._upkeeps = {
            label: Upkeep(source, partial(self._changed.add, label))
            for label, source in self._sources.items()
        }

    def __len__(self) -> int:
        return len(self._sources)

    async def load(self) -> None:
        """Ask every source anew, now; what goes wrong is logged."""
        loads = (upkeep.load() for upkeep in self._upkeeps.values())
        self._note(await asyncio.gather(*loads, return_exceptions=True))

    async def start(self) -> None:
        """Follow the sources from now on; what goes wrong is logged, and tried again."""
        starts = (upkeep.start() for upkeep in self._upkeeps.values())
        self._note(await asyncio.gather(*starts, return_exceptions=True))

    async def stop(self) -> None:
        """Follow them no longer."""
        stops = (upkeep.stop() for upkeep in self._upkeeps.values())
        self._note(await asyncio.gather(*stops, return_exceptions=True))

    def runs(self, name: str) -> bool:
        """Whether the registry's tool of that name is of one of the sources."""
        return name in self._owners

    async def execute(self, spec: MCPToolSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a tool of a source. One that does not answer is read again soon.

        Raises:
            FederationError: it failed; `NodeUnavailable` and `Overloaded` where it surely did not run.
        """
        source = self._owners[spec.name]
        try:
            return await source.execute(spec, args, kwargs)
        except (NodeUnavailable, ServerUnavailable, DeadlineExceeded):
            self._upkeeps[source.label].look()
            raise

    def begin_anew(self) -> None:
        """The registry is another one, which has none of the tools yet."""
        self._owned = {label: {} for label in self._sources}
        self._owners.clear()
        self._changed.update(self._sources)

    def bring_into(self, registry: ParetoMCPRegistry) -> None:
        """Have the registry hold what the sources have by now, and what was measured of it."""
        for label, source in self._sources.items():
            fresh = source.performance()
            self._measured[label].update(fresh)
            if label in self._changed:
                self._changed.discard(label)
                self._merge(source, registry)
            owned = self._owned[label]
            for name, measured in fresh.items():
                if name in owned and registry.performance(name) != measured:
                    registry.record_performance(name, measured)

    def _merge(self, source: CatalogSource, registry: ParetoMCPRegistry) -> None:
        owned = self._owned[source.label]
        fresh = {spec.name: spec for spec in source.entries()}
        for name in owned.keys() - fresh.keys():
            del owned[name], self._owners[name]
            self._measured[source.label].pop(name, None)  # the registry keeps it
            registry.remove_mcp(name)
        for name, spec in fresh.items():
            if owned.get(name) is spec:
                continue
            if name not in owned and registry.get_exact(name) is not None:
                self._note_clash(source, name)
                continue
            registry.add_mcp(spec)
            if name not in owned and (measured := self._measured[source.label].get(name)):
                registry.record_performance(name, measured)
            owned[name] = spec
            self._owners[name] = source

    def _note(self, outcomes: Sequence[BaseException | None]) -> None:
        """Log what went wrong, source by source."""
        for label, outcome in zip(self._sources, outcomes, strict=True):
            if isinstance(outcome, FederationError):
                log.warn("source_unavailable", source=label, code=outcome.code, reason=outcome.message)
            elif isinstance(outcome, Exception):
                log.error("source_failed", source=label, exc_info=outcome)

    def _note_clash(self, source: CatalogSource, name: str) -> None:
        if (source.label, name) not in self._clashes:
            self._clashes.add((source.label, name))
            log.warn("name_taken", source=source.label, tool=name)
