"""The Pareto registry: local and remote tools side by side, each with its score."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mcp_federation.engine.choice.pareto import Bounds, Performance, Point, confident_front, pareto_score
from mcp_federation.engine.choice.predictor import PerformancePredictor, Place, Prediction
from mcp_federation.engine.documents import base_name
from mcp_federation.engine.priors import static_specs
from mcp_federation.engine.types import MCPCategory, MCPToolSpec

Listener = Callable[[str], None]

FAILING = 0.5
"""A tool whose success is surely less likely is one that fails."""

MAX_GONE = 5_000
"""Tools that went of which measurements are kept; of more, those that went first are forgotten."""


@dataclass(slots=True)
class _Providers:
    """The names of a plain local name's real tools: all, those that something runs, those it can now."""

    all: dict[str, None] = field(default_factory=dict)
    executable: set[str] = field(default_factory=set)
    runnable: set[str] = field(default_factory=set)


class ParetoMCPRegistry:
    """Tool specs by name. Given none, it starts with the static priors.

    A real tool is also found by its plain local name. Usage, reliability and cost efficiency of a spec are
    its own until it is measured. Each measurement gives it those of its `Performance` and of the calls made
    from here, and its score anew. A static prior turns executable while a real, executable tool of its name
    is there.
    """

    def __init__(
        self,
        specs: Iterable[MCPToolSpec] | None = None,
        *,
        predictor: PerformancePredictor | None = None,
    ) -> None:
        self._predictor = predictor or PerformancePredictor()
        self._front: list[MCPToolSpec] | None = None
        self._specs: dict[str, MCPToolSpec] = {}
        self._performance: dict[str, Performance] = {}
        self._gone: dict[str, None] = {}
        self._providers: dict[str, _Providers] = {}
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
        """The measured, runnable tools that no other dominates with confidence (see `confident_front`)."""
        if self._front is None:
            self._front = self._find_front()
        return list(self._front)

    def providers(self, local_name: str) -> list[MCPToolSpec]:
        """The real tools of a plain local name: those that can run first, then by score, then by name."""
        known = self._providers.get(local_name, _Providers())
        found = [self._specs[name] for name in known.all]
        return sorted(found, key=lambda spec: (not spec.runnable, *_best_first(spec)))

    def predict(self, name: str) -> Prediction:
        """What is expected of the tool's next call."""
        return self._predictor.predict(name)

    @property
    def explorers(self) -> int:
        """How many callers explore for each other."""
        return self._predictor.explorers

    def performance(self, name: str) -> Performance | None:
        """What was measured of the tool, if anything."""
        return self._performance.get(name)

    def add_mcp(self, spec: MCPToolSpec) -> None:
        """Add the spec, or put it in the place of the one of its name."""
        old = self._specs.get(spec.name)
        if old is not None:
            self._unlink(old)
        self._specs[spec.name] = spec
        self._gone.pop(spec.name, None)
        self._snapshot = self._front = None
        self._predictor.put(spec.name, _place(spec))
        self._rescore(spec)
        if not spec.metadata.get("static"):
            self._link(spec)
        self._changed(spec)

    def remove_mcp(self, name: str) -> bool:
        """Remove the spec; whether it was there. What was measured of it is kept for its return, a while."""
        spec = self._specs.pop(name, None)
        if spec is None:
            return False
        self._gone[name] = None
        if len(self._gone) > MAX_GONE:
            self._forget(next(iter(self._gone)))
        self._snapshot = self._front = None
        self._unlink(spec)
        self._changed(spec)
        return True

    def record_performance(self, name: str, performance: Performance) -> None:
        """Score the tool by this measurement from now on, also where it is only added later."""
        if performance.count == 0:
            return
        self._performance[name] = performance
        self._predictor.report(name, performance.provider, performance.tallies)
        self._measured(name)

    def observe(self, name: str, *, success: bool, latency_ms: float) -> None:
        """Score the tool also by what became of this call from here.

        Raises:
            ValueError: the latency is not finite, or negative.
        """
        self._predictor.observe(name, success=success, latency_ms=latency_ms)
        self._measured(name)

    def is_failing(self, name: str) -> bool:
        """Whether what was seen of the tool makes it sure that it fails in more than half of its calls."""
        if not self._predictor.is_measured(name):
            return False
        return self._predictor.predict(name).success_interval[1] < FAILING

    def subscribe(self, listener: Listener) -> None:
        """Call the listener with every name that is added, removed, or comes to stand for others."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """No longer call it."""
        self._listeners.remove(listener)

    def _find_front(self) -> list[MCPToolSpec]:
        measured = [
            spec for spec in self._specs.values() if spec.runnable and self._predictor.is_measured(spec.name)
        ]
        bounds = [bounds_of(self._predictor.predict(spec.name)) for spec in measured]
        return [measured[index] for index in confident_front(bounds)]

    def _measured(self, name: str) -> None:
        self._front = None
        spec = self._specs.get(name)
        if spec is not None:
            self._rescore(spec)

    def _forget(self, name: str) -> None:
        del self._gone[name]
        self._performance.pop(name, None)
        self._predictor.forget(name)

    def _rescore(self, spec: MCPToolSpec) -> None:
        performance = self._performance.get(spec.name)
        if performance is not None:
            spec.usage_frequency = performance.usage
            spec.cost_efficiency = performance.cost_efficiency
        if self._predictor.is_measured(spec.name):
            measured = self._predictor.predict(spec.name).measured
            spec.reliability_score = spec.reliability_score if measured is None else measured
        spec.pareto_score = pareto_score(spec.usage_frequency, spec.reliability_score, spec.cost_efficiency)

    def _link(self, spec: MCPToolSpec) -> None:
        for local in _local_names(spec):
            providers = self._providers.setdefault(local, _Providers())
            providers.all[spec.name] = None
            if spec.metadata.get("executable"):
                providers.executable.add(spec.name)
            if spec.runnable:
                providers.runnable.add(spec.name)

    def _unlink(self, spec: MCPToolSpec) -> None:
        for local in _local_names(spec):
            providers = self._providers.get(local, _Providers())
            providers.all.pop(spec.name, None)
            providers.executable.discard(spec.name)
            providers.runnable.discard(spec.name)
            if not providers.all:
                self._providers.pop(local, None)

    def _changed(self, spec: MCPToolSpec) -> None:
        """Settle the priors that the spec stands behind, and tell the listeners."""
        changed = {spec.name}
        for local in _local_names(spec):
            prior = self._specs.get(local)
            if prior is not None and prior.metadata.get("static"):
                behind = self._providers.get(local, _Providers())
                provided, available = bool(behind.executable), bool(behind.runnable)
                prior.metadata.update(provided=provided, executable=provided, available=available)
                changed.add(local)
        for listener in self._listeners:
            for name in changed:
                listener(name)


def bounds_of(prediction: Prediction) -> Bounds:
    """What a tool is at worst and at best, by its prediction."""
    (low, high), (fast, slow) = prediction.success_interval, prediction.p50_interval
    cost = prediction.mean_cost
    return Bounds(
        Point(low, slow, cost),
        Point(prediction.success_probability, prediction.p50_ms, cost),
        Point(high, fast, cost),
    )


def _place(spec: MCPToolSpec) -> Place:
    server, node = spec.metadata.get("server"), spec.metadata.get("node")
    local = base_name(str(spec.metadata.get("local_name", spec.name)))
    return Place(str(server or ""), str(node or ""), spec.category.value, local)


def _local_names(spec: MCPToolSpec) -> set[str]:
    """The plain names it answers to: its local name, and that without the `@node` of a partner's listing."""
    local = str(spec.metadata.get("local_name", spec.name))
    return {local, base_name(local)}


def _best_first(spec: MCPToolSpec) -> tuple[float, str]:
    return -spec.pareto_score, spec.name
