"""The RAG-MCP engine: encode a request, search and validate tools, select."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from mcp_federation.engine.analytics import Durations, Stopwatch
from mcp_federation.engine.brainstorming import BrainstormingSession
from mcp_federation.engine.choice.reasons import reason
from mcp_federation.engine.choice.recommendations import forecasts, recommendations
from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.choice.selection import select
from mcp_federation.engine.choice.worth import Explorer, Objective
from mcp_federation.engine.llm import configured_scorer
from mcp_federation.engine.retrieval import Retriever
from mcp_federation.engine.search.encoders import configured_encoder
from mcp_federation.engine.search.hybrid import HybridRetriever
from mcp_federation.engine.search.request import MAX_REQUEST
from mcp_federation.engine.search.vectors import VectorSearch
from mcp_federation.engine.text import terms
from mcp_federation.engine.tool_index import ToolIndex
from mcp_federation.engine.types import (
    MCPCategory,
    MCPRetrievalResult,
    PipelineStage,
    RAGMCPPipelineResult,
    RAGMCPQuery,
)
from mcp_federation.engine.validation import Candidate, Scorer, Validator
from mcp_federation.errors import InvalidRequest

MAX_TOP_K = 1_000
SPARE = 4
"""Tools that are looked at for each that is recommended."""

MAX_RECOMMENDED = MAX_TOP_K // SPARE

_INDEX_BATCH = 10
"""Tools that are indexed before other tasks of the event loop get their turn."""


@dataclass(frozen=True, slots=True)
class _Options:
    top_k: int
    category: MCPCategory | None
    ask_model: bool


class RAGMCPEngine:
    """Finds the tools that serve a request. Usable right after construction, by one thread at a time.

    similarity_threshold is relative: candidates whose similarity is under that share of the best
        candidate's are kept, but rank lower (see `selection`). How well the words of a good tool match
        differs so much between requests that an absolute bound would drop all answers or none.
    top_k_candidates is how many results a request gets that names no `top_k`.
    openrouter_api_key (else the environment's OPENROUTER_API_KEY, read here once) lets a model validate;
        without it, or while it fails, the heuristic alone does, which is logged once.
    mcp_brainstorming_endpoint is told the results of every request, where given.
    llm_url and llm_model (else the environment's MCP_FEDERATION_LLM_URL and MCP_FEDERATION_LLM_MODEL) name
        another OpenAI-compatible chat endpoint than OpenRouter, with the key given, if any, else that in the
        environment's MCP_FEDERATION_LLM_KEY.
    encoder (else the environment's MCP_FEDERATION_ENCODER) adds vectors of another encoder to the search, see
        `search.encoders`; `static`, the one that comes along, needs nothing.
    cache_directory, where given, keeps the index from one start to the next.
    vector_dimensions is the parent's; every encoder here knows its own.
    `retriever` and `scorer` take the place of the hybrid retriever and of the chat endpoint.
    """

    def __init__(
        self,
        openrouter_api_key: str | None = None,
        vector_dimensions: int = 1536,
        similarity_threshold: float = 0.7,
        top_k_candidates: int = 5,
        enable_llm_validation: bool = True,
        cache_directory: str | None = None,
        mcp_brainstorming_endpoint: str | None = None,
        *,
        retriever: Retriever | None = None,
        scorer: Scorer | None = None,
        llm_url: str | None = None,
        llm_model: str | None = None,
        encoder: str | None = None,
    ) -> None:
        self.vector_dimensions = vector_dimensions
        self.similarity_threshold = similarity_threshold
        self.top_k_candidates = top_k_candidates
        self.enable_llm_validation = enable_llm_validation
        self.cache_directory = cache_directory
        self._validator = Validator(scorer or configured_scorer(openrouter_api_key, llm_url, llm_model))
        self._brainstorming = BrainstormingSession(mcp_brainstorming_endpoint)
        self._durations = {stage: Durations() for stage in (*PipelineStage, "total_pipeline")}
        text_encoder = configured_encoder(encoder)
        self._index = ToolIndex(
            retriever or HybridRetriever(folder=Path(cache_directory) if cache_directory else None),
            VectorSearch(text_encoder) if text_encoder else None,
        )
        self._stale: dict[str, None] = {}
        self._explorer = Explorer()
        self._registry = ParetoMCPRegistry()
        self._watch(self._registry)

    @property
    def pareto_registry(self) -> ParetoMCPRegistry:
        """The tools; add to it, remove from it, or put another in its place."""
        self._catch_up()
        return self._registry

    @pareto_registry.setter
    def pareto_registry(self, registry: ParetoMCPRegistry) -> None:
        self._replace_registry(registry)

    async def initialize(self) -> bool:
        """Build the index and connect to what was configured; True when ready."""
        await self._prepare()
        self._index.save()
        await self._brainstorming.open()
        return True

    async def aclose(self) -> None:
        """End what goes on beside the requests."""
        await self._index.aclose()

    async def execute_rag_mcp_pipeline(
        self, user_query: str, options: Mapping[str, Any] | None = None
    ) -> RAGMCPPipelineResult:
        """The tools for a request, best first; of a longer one, the first `MAX_REQUEST` characters are read.

        The metadata's `searched_by` and `validated_by` are `encoder` and `llm` where one is configured and
        answered in time, else `built_in` and `heuristic`.

        Options: `top_k` (1 to 1000), `filter_category` (an `MCPCategory` or its name),
        `enable_agent_analysis` (False keeps this request from the model). A request or option that
        cannot be used gives a result with `success` False and the reason.
        """
        query = RAGMCPQuery(uuid4().hex, user_query, processing_metadata={"options": options or {}})
        watch = Stopwatch()
        try:
            chosen = self._read_options(options or {})
            if not isinstance(user_query, str) or not user_query.strip():
                raise InvalidRequest("the query is empty")
        except InvalidRequest as error:
            return RAGMCPPipelineResult(
                query,
                [],
                {"pipeline_id": query.query_id},
                watch.elapsed,
                success=False,
                error_message=error.message,
            )
        await self._prepare()
        result = await self._run(query, chosen, watch)
        await self._brainstorming.tell(result)
        return result

    async def get_mcp_recommendations(self, query: str, max_recommendations: int = 3) -> list[dict[str, Any]]:
        """The best tools for a request as plain dicts, each with a reason; empty where it cannot be used."""
        result = await self.execute_rag_mcp_pipeline(query, {"top_k": max_recommendations})
        return [_recommendation(found) for found in result.retrieved_mcps]

    async def recommend(
        self, query: str, objective: Objective | str = Objective.BALANCED, limit: int = 3
    ) -> list[dict[str, Any]]:
        """The tools to use for a request, best first, each with its providers, best first.

        The `objective` (balanced, reliability, latency or cost) says what to prefer among tools that fit; see
        `choice.worth` for the rule. A few recommendations try a tool of which little is known.

        Raises:
            InvalidRequest: there is no such objective, the limit is not from 1 to `MAX_RECOMMENDED`, or the
                request cannot be used.
        """
        if not _is_count(limit, MAX_RECOMMENDED):
            raise InvalidRequest(f"limit must be a whole number from 1 to {MAX_RECOMMENDED}")
        try:
            chosen = Objective(objective)
        except ValueError:
            raise InvalidRequest(f"the objective is one of {', '.join(Objective)}") from None
        found = await self.execute_rag_mcp_pipeline(query, {"top_k": SPARE * limit})
        if not found.success:
            raise InvalidRequest(found.error_message or "the request cannot be used")
        return recommendations(self._registry, found.retrieved_mcps, chosen, limit, self._explorer)

    def get_performance_analytics(self) -> dict[str, Any]:
        """Per stage (`query_encoding_time`, …, and `total_pipeline_time`): `count`, `average_ms`, `min_ms`,
        `max_ms`, `latest_ms`; and what the engine is connected to.
        """
        analytics: dict[str, Any] = {
            f"{stage}_time": durations.summary() for stage, durations in self._durations.items()
        }
        analytics["integration_status"] = {
            "llm_validation_enabled": self.enable_llm_validation,
            "agent_analysis_enabled": self.enable_llm_validation and self._validator.model_answers,
            "mcp_brainstorming_connected": self._brainstorming.connected,
        }
        return analytics

    def _catch_up(self) -> None:
        """Bring the registry up to date with what a subclass gets from elsewhere."""

    def _replace_registry(self, registry: ParetoMCPRegistry) -> None:
        self._registry.unsubscribe(self._mark_stale)
        self._stale.update(dict.fromkeys(self._index.names))
        self._registry = registry
        self._watch(registry)

    async def _prepare(self) -> None:
        """Index what changed."""
        self._catch_up()
        while self._stale:
            for name in list(islice(self._stale, _INDEX_BATCH)):
                del self._stale[name]
                self._put(name)
            await asyncio.sleep(0)

    async def _run(self, query: RAGMCPQuery, options: _Options, watch: Stopwatch) -> RAGMCPPipelineResult:
        with watch.lap(PipelineStage.QUERY_ENCODING):
            query.encoded_query = tuple(terms(query.original_query[:MAX_REQUEST]))
        query.pipeline_stage = PipelineStage.VECTOR_SEARCH
        with watch.lap(PipelineStage.VECTOR_SEARCH):
            found = await self._index.search(query.original_query, options.top_k, options.category)
        query.pipeline_stage = PipelineStage.VALIDATION
        with watch.lap(PipelineStage.VALIDATION):
            validations, validated_by = await self._validator.validate(
                query.original_query,
                frozenset(query.encoded_query),
                [Candidate(tool.spec, tool.hit.similarity, frozenset(tool.hit.matched)) for tool in found],
                ask_model=options.ask_model,
            )
        query.pipeline_stage = PipelineStage.MCP_SELECTION
        with watch.lap(PipelineStage.MCP_SELECTION):
            failing = [self._registry.is_failing(tool.spec.name) for tool in found]
            selected = select(
                found, validations, failing, threshold=self.similarity_threshold, limit=options.top_k
            )
            expected = forecasts(self._registry, [result.mcp_spec for result in selected])
            for result, forecast in zip(selected, expected, strict=True):
                result.ranking_factors.update(forecast)
        total = watch.elapsed
        for stage, duration in {**watch.laps, "total_pipeline": total}.items():
            self._durations[stage].add(duration)
        metadata = {
            "pipeline_id": query.query_id,
            "timing": {f"{stage}_ms": duration for stage, duration in watch.laps.items()},
            "search_stats": {"candidates": len(found), "selected": len(selected)},
            "searched_by": "encoder" if any("encoder" in tool.hit.signals for tool in found) else "built_in",
            "validated_by": validated_by,
        }
        return RAGMCPPipelineResult(query, selected, metadata, total, success=True)

    def _read_options(self, options: Mapping[str, Any]) -> _Options:
        if not isinstance(options, Mapping):
            raise InvalidRequest("the options must be a mapping of names to values")
        top_k = options.get("top_k")
        if top_k is None:
            top_k = self.top_k_candidates
        if not _is_count(top_k, MAX_TOP_K):
            raise InvalidRequest(f"top_k must be a whole number from 1 to {MAX_TOP_K}")
        category = options.get("filter_category")
        try:
            chosen = MCPCategory(str(category).lower()) if category else None
        except ValueError:
            known = ", ".join(MCPCategory)
            raise InvalidRequest(f"filter_category must be one of {known}") from None
        ask_model = self.enable_llm_validation and bool(options.get("enable_agent_analysis", True))
        return _Options(top_k, chosen, ask_model)

    def _watch(self, registry: ParetoMCPRegistry) -> None:
        registry.subscribe(self._mark_stale)
        self._stale.update(dict.fromkeys(spec.name for spec in registry.mcps))

    def _mark_stale(self, name: str) -> None:
        self._stale[name] = None

    def _put(self, name: str) -> None:
        """Index the spec as it is now."""
        spec = self._registry.get_exact(name)
        # A prior with real tools behind it would stand beside them in every answer.
        if spec is None or spec.metadata.get("provided"):
            self._index.remove(name)
        else:
            self._index.put(spec)
            spec.indexed_at = datetime.now(UTC)


def _is_count(value: object, greatest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= greatest


def _recommendation(found: MCPRetrievalResult) -> dict[str, Any]:
    spec, factors = found.mcp_spec, found.ranking_factors
    return {
        "name": spec.name,
        "description": spec.description,
        "category": spec.category.value,
        "capabilities": list(spec.capabilities),
        "confidence_score": found.selection_confidence,
        "pareto_score": spec.pareto_score,
        "reliability_score": spec.reliability_score,
        "usage_frequency": spec.usage_frequency,
        "recommendation_reason": reason(found, spec, factors["success_probability"], factors["executions"]),
    }
