"""The Pareto registry: local and remote tools side by side, each with its score."""

from collections.abc import Callable, Iterable, Sequence

from mcp_federation.engine.documents import base_name
from mcp_federation.engine.pareto import Performance, Point, pareto_front, pareto_score
from mcp_federation.engine.priors import static_specs
from mcp_federation.engine.types import MCPCategory, MCPToolSpec

Listener = Callable[[str], None]


class ParetoMCPRegistry:
    """Tool specs by name. Given none, it starts with the static priors.

    A real tool is also found by its plain local name. Reliability and cost efficiency (and usage) of a
    spec are its own until it is measured, then those of its `Performance`. A static prior turns
    executable while a real, executable tool of its name is there.
    """

    def __init__(self, specs: Iterable[MCPToolSpec] | None = None) -> None:
        self._specs: dict[str, MCPToolSpec] = {}
        self._performance: dict[str, Performance] = {}
        self._providers: dict[str, dict[str, None]] = {}
        self._listeners: list[Listener] = []
        self._snapshot: tuple[MCPToolSpec, ...] | None = None
        for spec in static_specs() if specs is None else specs:
            self.add_mcp(spec)

    @property
    def mcps(self) -> Sequence[MCPToolSpec]:
        """All specs in the order they came, as a sequence that later changes do not touch."""
        if self._snapshot is None:
            self._snapshot = tuple(self._specs.values())
        return self._snapshot

    def get_mcps_by_category(self, category: MCPCategory | str) -> list[MCPToolSpec]:
        """The specs of one category."""
        return [spec for spec in self._specs.values() if spec.category == category]

    def get_top_pareto_mcps(self, limit: int = 10) -> list[MCPToolSpec]:
        """The specs with the best scores, best first; ties by name."""
        return sorted(self._specs.values(), key=_best_first)[: max(0, limit)]

    def get_exact(self, name: str) -> MCPToolSpec | None:
        """The spec of exactly that name."""
        return self._specs.get(name)

    def get_mcp_by_name(self, name: str) -> MCPToolSpec | None:
        """The spec of that name; for a plain local name without one, the best tool that has it."""
        spec = self._specs.get(name)
        if spec is None:
            spec = next(iter(self.providers(name)), None)
        return spec

    def get_pareto_front(self) -> list[MCPToolSpec]:
        """The measured, runnable tools that no other dominates in success, latency and cost."""
        measured = [
            (spec, Point(performance.success_rate, performance.latency_ms, performance.mean_cost))
            for spec in self._specs.values()
            if spec.runnable and (performance := self._performance.get(spec.name))
        ]
        return [measured[index][0] for index in pareto_front([point for _, point in measured])]

    def providers(self, local_name: str) -> list[MCPToolSpec]:
        """The real tools of a plain local name: those that can run first, then by score, then by name."""
        found = [self._specs[name] for name in self._providers.get(local_name, ())]
        return sorted(found, key=lambda spec: (not spec.runnable, *_best_first(spec)))

    def performance(self, name: str) -> Performance | None:
        """What was measured of the tool, if anything."""
        return self._performance.get(name)

    def add_mcp(self, spec: MCPToolSpec) -> None:
        """Add the spec, or put it in the place of the one of its name."""
        old = self._specs.get(spec.name)
        if old is not None:
            self._unlink(old)
        self._specs[spec.name] = spec
        self._snapshot = None
        self._rescore(spec)
        if not spec.metadata.get("static"):
            for name in _local_names(spec):
                self._providers.setdefault(name, {})[spec.name] = None
        self._changed(spec)

    def remove_mcp(self, name: str) -> bool:
        """Remove the spec; whether it was there. What was measured of it is kept for its return."""
        spec = self._specs.pop(name, None)
        if spec is None:
            return False
        self._snapshot = None
        self._unlink(spec)
        self._changed(spec)
        return True

    def record_performance(self, name: str, performance: Performance) -> None:
        """Score the tool by this measurement from now on, also where it is only added later."""
        if performance.count == 0:
            return
        self._performance[name] = performance
        spec = self._specs.get(name)
        if spec is not None:
            self._rescore(spec)

    def subscribe(self, listener: Listener) -> None:
        """Call the listener with every name that is added, removed, or comes to stand for others."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """No longer call it."""
        self._listeners.remove(listener)

    def _rescore(self, spec: MCPToolSpec) -> None:
        performance = self._performance.get(spec.name)
        if performance is not None:
            spec.usage_frequency = performance.usage
            spec.reliability_score = performance.success_rate
            spec.cost_efficiency = performance.cost_efficiency
        spec.pareto_score = pareto_score(spec.usage_frequency, spec.reliability_score, spec.cost_efficiency)

    def _unlink(self, spec: MCPToolSpec) -> None:
        for local in _local_names(spec):
            providers = self._providers.get(local, {})
            providers.pop(spec.name, None)
            if not providers:
                self._providers.pop(local, None)

    def _changed(self, spec: MCPToolSpec) -> None:
        """Settle the priors that the spec stands behind, and tell the listeners."""
        changed = {spec.name}
        for local in _local_names(spec):
            prior = self._specs.get(local)
            if prior is not None and prior.metadata.get("static"):
                behind = self._providers.get(local, {})
                provided = any(self._specs[name].metadata.get("executable") for name in behind)
                available = any(self._specs[name].runnable for name in behind)
                prior.metadata.update(provided=provided, executable=provided, available=available)
                changed.add(local)
        for listener in self._listeners:
            for name in changed:
                listener(name)


def _local_names(spec: MCPToolSpec) -> set[str]:
    """The plain names it answers to: its local name, and that without the `@node` of a partner's listing."""
    local = str(spec.metadata.get("local_name", spec.name))
    return {local, base_name(local)}


def _best_first(spec: MCPToolSpec) -> tuple[float, str]:
    return -spec.pareto_score, spec.name
