"""Recommendations as callers get them, one for each tool with all its providers; forecasts of results."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from mcp_federation.engine.choice.pareto import confident_front
from mcp_federation.engine.choice.reasons import reason
from mcp_federation.engine.choice.registry import ParetoMCPRegistry, bounds_of
from mcp_federation.engine.choice.worth import Candidate, Explorer, Objective, Ranked, rank
from mcp_federation.engine.types import MCPRetrievalResult, MCPToolSpec


def recommendations(
    registry: ParetoMCPRegistry,
    found: Sequence[MCPRetrievalResult],
    objective: Objective,
    limit: int,
    explorer: Explorer,
) -> list[dict[str, Any]]:
    """The best `limit` tools among those found; each by its best provider, the others in `providers`.

    See `worth` for the rule. What cannot be run now comes last, and says so.
    """
    tools = {name: hit for hit in found for name in hit.providers}
    candidates = list(_candidates(registry, tools))
    ranked = explorer.explore(rank(candidates, objective), objective, registry.explorers)
    by_tool: dict[str, list[Ranked]] = {}
    for entry in ranked:
        by_tool.setdefault(tools[entry.candidate.name].mcp_spec.name, []).append(entry)
    return [
        _recommendation(registry, tools[providers[0].candidate.name], providers)
        for providers in islice(by_tool.values(), limit)
    ]


def forecasts(registry: ParetoMCPRegistry, specs: Sequence[MCPToolSpec]) -> list[dict[str, float]]:
    """What is expected of each tool's next call; is it on the front of those that can be run?"""
    expected = [registry.predict(spec.name) for spec in specs]
    runnable = [place for place, spec in enumerate(specs) if spec.runnable]
    kept = confident_front([bounds_of(expected[place]) for place in runnable])
    front = {runnable[place] for place in kept}
    return [
        {
            "success_probability": prediction.success_probability,
            "p50_ms": prediction.p50_ms,
            "executions": prediction.executions,
            "on_front": float(place in front),
        }
        for place, prediction in enumerate(expected)
    ]


def _candidates(registry: ParetoMCPRegistry, tools: Mapping[str, MCPRetrievalResult]) -> Iterable[Candidate]:
    """The providers of what was found that are still there; those of one tool are equally relevant."""
    for name, hit in tools.items():
        spec = registry.get_exact(name)
        if spec is not None:
            yield Candidate(name, hit.relevance_score, registry.predict(name), spec.runnable)


def _recommendation(
    registry: ParetoMCPRegistry, found: MCPRetrievalResult, providers: Sequence[Ranked]
) -> dict[str, Any]:
    best = providers[0]
    spec = _spec(registry, best)
    expected = best.candidate.prediction
    return {
        "name": spec.name,
        "description": spec.description,
        "category": spec.category.value,
        "available": spec.runnable,
        "relevance": best.candidate.relevance,
        "worth": best.worth,
        "on_front": best.on_front,
        "explored": best.explored,
        "pareto_score": spec.pareto_score,
        "success_probability": expected.success_probability,
        "latency_ms": {
            "p50": expected.p50_ms,
            "p90": expected.quantile_ms(0.9),
            "p99": expected.quantile_ms(0.99),
        },
        "mean_cost": expected.mean_cost,
        "similarity": found.similarity_score,
        "matched_terms": list(found.matched_terms),
        "reason": reason(found, spec, expected.success_probability, expected.executions),
        "providers": [_provider(registry, entry) for entry in providers],
    }


def _provider(registry: ParetoMCPRegistry, entry: Ranked) -> dict[str, Any]:
    spec, expected = _spec(registry, entry), entry.candidate.prediction
    return {
        "name": spec.name,
        "node": spec.metadata.get("node"),
        "available": spec.runnable,
        "success_probability": expected.success_probability,
        "p50_ms": expected.p50_ms,
        "executions": round(expected.executions, 1),
        "worth": entry.worth,
    }


def _spec(registry: ParetoMCPRegistry, entry: Ranked) -> MCPToolSpec:
    spec = registry.get_exact(entry.candidate.name)
    assert spec is not None  # noqa: S101 - candidates come from this registry, in the same step
    return spec
