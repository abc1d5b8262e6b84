"""Selection: the order in which retrieved, validated tools are offered. Pure."""

from collections.abc import Sequence

from mcp_federation.engine.tool_index import Found
from mcp_federation.engine.types import MCPRetrievalResult
from mcp_federation.engine.validation import Validation

SIMILARITY_WEIGHT = 0.4
RELEVANCE_WEIGHT = 0.2
VALIDATION_WEIGHT = 0.25
PARETO_WEIGHT = 0.15

BELOW_THRESHOLD_FACTOR = 0.5
NOT_RUNNABLE_FACTOR = 0.5
FAILING_FACTOR = 0.25


def select(
    found: Sequence[Found],
    validations: Sequence[Validation],
    failing: Sequence[bool],
    *,
    threshold: float,
    limit: int,
) -> list[MCPRetrievalResult]:
    """The best `limit` results, what cannot be run now last; else by confidence, similarity, name.

    Confidence is 0.4 similarity + 0.2 relevance + 0.25 validation + 0.15 Pareto score. It is halved where
    the relevance (similarity in relation to the best hit) is under `threshold`, halved where the tool cannot
    be run now, and a quarter where it is `failing` for sure: a better record outweighs a somewhat better
    match of words, not any match.
    """
    best = max((tool.hit.similarity for tool in found), default=0.0) or 1.0
    results = [
        _result(tool, tool.hit.similarity / best, validation, fails, threshold)
        for tool, validation, fails in zip(found, validations, failing, strict=True)
    ]
    results.sort(key=_order)
    return results[:limit]


def _order(result: MCPRetrievalResult) -> tuple[bool, float, float, str]:
    spec = result.mcp_spec
    return not spec.runnable, -result.selection_confidence, -result.similarity_score, spec.name


def _result(
    tool: Found, relevance: float, validation: Validation, fails: bool, threshold: float
) -> MCPRetrievalResult:
    spec, hit = tool.spec, tool.hit
    over_threshold = relevance >= threshold
    confidence = (
        SIMILARITY_WEIGHT * hit.similarity
        + RELEVANCE_WEIGHT * relevance
        + VALIDATION_WEIGHT * validation.score
        + PARETO_WEIGHT * spec.pareto_score
    )
    confidence *= 1.0 if over_threshold else BELOW_THRESHOLD_FACTOR
    confidence *= 1.0 if spec.runnable else NOT_RUNNABLE_FACTOR
    confidence *= FAILING_FACTOR if fails else 1.0
    return MCPRetrievalResult(
        mcp_spec=spec,
        similarity_score=hit.similarity,
        relevance_score=relevance,
        validation_score=validation.score,
        selection_confidence=confidence,
        ranking_factors={
            **hit.signals,
            "similarity": hit.similarity,
            "relevance": relevance,
            "validation": validation.score,
            "pareto": spec.pareto_score,
            "over_threshold": float(over_threshold),
            "failing": float(fails),
            **validation.factors,
        },
        matched_terms=hit.matched,
        providers=tuple(provider.name for provider in tool.providers),
    )
