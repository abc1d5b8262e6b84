"""Recommendations as callers get them, one for each tool with all its providers; forecasts of results."""

from collections.abc import Iterable, Sequence
from typing import Any

from mcp_federation.engine.documents import what_tool
from mcp_federation.engine.pareto import confident_front
from mcp_federation.engine.reasons import reason
from mcp_federation.engine.recommendation import Candidate, Explorer, Objective, Ranked, rank
from mcp_federation.engine.registry import ParetoMCPRegistry, bounds_of
from mcp_federation.engine.types import MCPRetrievalResult, MCPToolSpec


def recommendations(
    registry: ParetoMCPRegistry,
    found: Sequence[MCPRetrievalResult],
    objective: Objective,
    limit: int,
    explorer: Explorer,
) -> list[dict[str, Any]]:
    """The best `limit` tools among those found; each by its best provider, the others in `providers`.

    See `recommendation` for the rule. What cannot be run now comes last, and says so.
    """
    candidates = list(_candidates(registry, found))
    ranked = explorer.explore(rank(candidates, objective), objective, registry.explorers)
    by_tool: dict[tuple[str, str, str], list[Ranked]] = {}
    for entry in ranked:
        by_tool.setdefault(what_tool(_spec(registry, entry)), []).append(entry)
    hits = {what_tool(hit.mcp_spec): hit for hit in reversed(found)}
    return [
        _recommendation(registry, hits[tool], providers) for tool, providers in list(by_tool.items())[:limit]
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


def _candidates(registry: ParetoMCPRegistry, found: Sequence[MCPRetrievalResult]) -> Iterable[Candidate]:
    """Everything found, and the other providers of the same tools, which are as relevant."""
    relevance: dict[str, float] = {}
    for hit in found:
        spec = hit.mcp_spec
        for provider in (spec, *registry.providers(what_tool(spec)[0])):
            if what_tool(provider) == what_tool(spec):
                relevance[provider.name] = max(relevance.get(provider.name, 0.0), hit.relevance_score)
    for name, score in relevance.items():
        known = registry.get_exact(name)
        if known is not None:
            yield Candidate(name, score, registry.predict(name), known.runnable)


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
