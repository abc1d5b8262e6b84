import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mcp_federation.engine import brainstorming, rag, tool_index
from mcp_federation.engine.choice.pareto import Performance
from mcp_federation.engine.choice.predictor import HALF_LIFE, PerformancePredictor
from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.documents import tool_spec
from mcp_federation.engine.rag import RAGMCPEngine
from mcp_federation.engine.types import MCPCategory, MCPToolSpec, PipelineStage
from mcp_federation.errors import ServerUnavailable
from tests.support.http_peer import HttpPeer, refused_url

QUERY = "unpack a zip archive"


def engine(**options: Any) -> RAGMCPEngine:
    return RAGMCPEngine(**{"enable_llm_validation": False, **options})


def names(result: Any) -> list[str]:
    return [found.mcp_spec.name for found in result.retrieved_mcps]


def matched(result: Any) -> list[str]:
    """The tools that have a word of the request, not its meaning alone."""
    return [found.mcp_spec.name for found in result.retrieved_mcps if found.matched_terms]


class Preferring:
    """Scores one tool 1 and all others 0."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def scores(self, query: str, specs: Sequence[MCPToolSpec]) -> list[float]:
        return [float(spec.name == self.name) for spec in specs]


class Failing:
    async def scores(self, query: str, specs: Sequence[MCPToolSpec]) -> list[float]:
        raise ServerUnavailable("down")


def test_an_engine_is_usable_right_after_construction_in_the_parents_order_of_arguments() -> None:
    made = RAGMCPEngine("key", 1536, 0.6, 3, False, "/cache", None)
    assert len(made.pareto_registry.mcps) == 15
    assert (made.vector_dimensions, made.similarity_threshold, made.top_k_candidates) == (1536, 0.6, 3)
    assert made.cache_directory == "/cache"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("I need to scrape product data from e-commerce websites", "web_scraper_mcp"),
        (QUERY, "file_operations_mcp"),
        ("send an email to my colleague", "email_client_mcp"),
        ("schedule a meeting on Tuesday", "calendar_scheduling_mcp"),
        ("which tables does my SQL database have?", "database_mcp"),
        ("show the last commits of the branch", "git_operations_mcp"),
    ],
)
async def test_default_construction_finds_the_tool_that_is_meant(query: str, name: str) -> None:
    result = await engine().execute_rag_mcp_pipeline(query)
    assert result.success
    assert result.error_message is None
    assert names(result)[0] == name


async def test_a_result_tells_scores_stages_and_timing() -> None:
    made = engine()
    assert await made.initialize() is True
    result = await made.execute_rag_mcp_pipeline(QUERY, {"top_k": 2})
    assert result.query.original_query == QUERY
    assert result.query.encoded_query == ("unpack", "zip", "archiv")
    assert result.query.pipeline_stage is PipelineStage.MCP_SELECTION
    assert set(result.pipeline_metadata["timing"]) == {f"{stage}_ms" for stage in PipelineStage}
    assert result.pipeline_metadata["validated_by"] == "heuristic"
    assert result.processing_time_ms > 0
    best = result.retrieved_mcps[0]
    assert best.relevance_score == 1.0
    assert best.mcp_spec.indexed_at is not None
    for score in (best.similarity_score, best.validation_score, best.selection_confidence):
        assert 0 < score <= 1
    assert best.ranking_factors["pareto"] == best.mcp_spec.pareto_score


@given(st.text(), st.integers(1, 20))
@settings(max_examples=30)
async def test_any_query_is_answered_in_order_of_confidence_within_the_limit(query: str, top_k: int) -> None:
    result = await engine().execute_rag_mcp_pipeline(query, {"top_k": top_k})
    assert result.success == bool(query.strip())
    confidences = [found.selection_confidence for found in result.retrieved_mcps]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0 <= confidence <= 1 for confidence in confidences)
    assert len(confidences) <= top_k


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("", None, "empty"),
        ("  ", None, "empty"),
        (7, None, "empty"),
        (QUERY, {"top_k": 0}, "top_k"),
        (QUERY, {"top_k": 10**6}, "top_k"),
        (QUERY, {"top_k": True}, "top_k"),
        (QUERY, {"top_k": "many"}, "top_k"),
        (QUERY, [1], "options must be a mapping"),
        (QUERY, "top_k", "options must be a mapping"),
        (QUERY, {"filter_category": "gardening"}, "web_information, data_processing"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_the_reason(query: Any, options: Any, message: str) -> None:
    result = await engine().execute_rag_mcp_pipeline(query, options)
    assert not result.success
    assert message in (result.error_message or "")
    assert result.retrieved_mcps == []


@pytest.mark.parametrize("category", ["development", "DEVELOPMENT", MCPCategory.DEVELOPMENT])
async def test_the_category_filter_holds_before_the_limit(category: str) -> None:
    result = await engine().execute_rag_mcp_pipeline(
        "file data code", {"filter_category": category, "top_k": 3}
    )
    assert result.retrieved_mcps
    assert {found.mcp_spec.category for found in result.retrieved_mcps} == {MCPCategory.DEVELOPMENT}


async def test_a_tool_that_is_added_changed_or_removed_is_found_as_it_is() -> None:
    made = engine()
    await made.initialize()
    made.pareto_registry.add_mcp(tool_spec("oven", "acme", description="Bake bread."))
    assert names(await made.execute_rag_mcp_pipeline("bake bread"))[0] == "oven@acme"
    made.pareto_registry.add_mcp(tool_spec("oven", "acme", description="Measure the tide."))
    assert matched(await made.execute_rag_mcp_pipeline("bake bread")) == []
    assert matched(await made.execute_rag_mcp_pipeline("tide")) == ["oven@acme"]
    made.pareto_registry.remove_mcp("oven@acme")
    assert "oven@acme" not in names(await made.execute_rag_mcp_pipeline("tide"))


async def test_a_filter_looks_at_all_tools_anew_only_after_one_of_them_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Mock(wraps=tool_index._fits)
    monkeypatch.setattr(tool_index, "_fits", looks)
    made, development = engine(), {"filter_category": "development"}
    registry = made.pareto_registry
    for index in range(500):
        registry.add_mcp(tool_spec(f"git_commit{index}", "acme", description=f"Gizmo number {index}."))
    await made.execute_rag_mcp_pipeline("gizmo", development)
    looks.reset_mock()
    assert matched(await made.execute_rag_mcp_pipeline("gizmo number 7", development))
    assert looks.call_count < 100
    spec = tool_spec("git_commit7", "acme", description="Gizmo number 7.")
    spec.category = MCPCategory.COMMUNICATION
    registry.add_mcp(spec)
    for category in MCPCategory.DEVELOPMENT, MCPCategory.COMMUNICATION:
        result = await made.execute_rag_mcp_pipeline("gizmo number 7", {"filter_category": category})
        assert ("git_commit7@acme" in names(result)) == (category == MCPCategory.COMMUNICATION)


async def test_many_tools_are_indexed_whole_before_the_first_answer() -> None:
    made = engine()
    for index in range(250):
        made.pareto_registry.add_mcp(tool_spec(f"gadget{index}", "acme", description="A gizmo."))
    assert len(matched(await made.execute_rag_mcp_pipeline("gizmo", {"top_k": 300}))) == 250


async def test_another_registry_can_take_the_place_of_the_first() -> None:
    made = engine()
    await made.initialize()
    old = made.pareto_registry
    made.pareto_registry = ParetoMCPRegistry([tool_spec("oven", "acme", description="Bake bread.")])
    old.add_mcp(tool_spec("stove", "acme", description="Bake bread."))
    assert names(await made.execute_rag_mcp_pipeline("bake bread")) == ["oven@acme"]
    assert names(await made.execute_rag_mcp_pipeline(QUERY)) == []


async def test_a_real_tool_takes_its_priors_place_in_answers_until_it_goes() -> None:
    made = engine()
    made.pareto_registry.add_mcp(tool_spec("file_operations_mcp", "acme", description="Unpack zip archives."))
    found = names(await made.execute_rag_mcp_pipeline(QUERY))
    assert found[0] == "file_operations_mcp@acme"
    assert "file_operations_mcp" not in found
    made.pareto_registry.remove_mcp("file_operations_mcp@acme")
    assert "file_operations_mcp" in names(await made.execute_rag_mcp_pipeline(QUERY))


def ovens(*nodes: str, available: bool = True) -> list[MCPToolSpec]:
    return [tool_spec("oven", node, description="Bake bread.", available=available) for node in nodes]


async def test_a_tool_on_several_nodes_is_one_result_by_who_can_run_it_and_then_by_the_better_record() -> (
    None
):
    made = engine()
    made.pareto_registry = ParetoMCPRegistry(ovens("globex", "initech") + ovens("acme", available=False))
    made.pareto_registry.record_performance("oven@initech", Performance(500, 1.0, 20.0))
    made.pareto_registry.record_performance("oven@acme", Performance(5000, 1.0, 1.0))
    found = (await made.execute_rag_mcp_pipeline("bake bread")).retrieved_mcps
    assert [(tool.mcp_spec.name, tool.providers) for tool in found] == [
        ("oven@initech", ("oven@initech", "oven@globex", "oven@acme"))
    ]


async def test_a_tool_is_found_by_the_providers_that_are_left() -> None:
    made = engine()
    made.pareto_registry = ParetoMCPRegistry(ovens("acme", "globex"))
    await made.initialize()
    made.pareto_registry.remove_mcp("oven@acme")
    assert names(await made.execute_rag_mcp_pipeline("bake bread")) == ["oven@globex"]
    made.pareto_registry.add_mcp(tool_spec("oven", "globex", description="Measure the tide."))
    assert matched(await made.execute_rag_mcp_pipeline("bake bread")) == []
    made.pareto_registry.remove_mcp("oven@globex")
    assert names(await made.execute_rag_mcp_pipeline("tide")) == []


async def test_neither_replicas_nor_tools_that_are_down_crowd_out_one_that_can_run() -> None:
    nodes = [f"node{place}" for place in range(100)]
    down = [
        tool_spec(f"oven{place}", "gone", description="Bake bread.", available=False) for place in range(100)
    ]
    toaster = tool_spec("toaster", "acme", description="Brown bread.")
    for others in (ovens(*nodes), ovens(*nodes, available=False), down):
        made = engine()
        made.pareto_registry = ParetoMCPRegistry([*others, toaster])
        found = await made.get_mcp_recommendations("bake bread")
        assert "toaster@acme" in [tool["name"] for tool in found]
        assert len(found) == min(3, 1 + len({spec.metadata["local_name"] for spec in others}))
        assert "toaster@acme" in [tool["name"] for tool in await made.recommend("bake bread")]


async def test_what_cannot_be_reached_comes_last_and_says_so_however_well_it_fits() -> None:
    made = engine()
    made.pareto_registry = ParetoMCPRegistry(
        [
            tool_spec("word_count", "gone", description="Counts the words of a text.", available=False),
            tool_spec("reverse", "acme", description="Turns a text around."),
        ]
    )
    found = await made.get_mcp_recommendations("count the words of a text")
    assert [tool["name"] for tool in found] == ["reverse@acme", "word_count@gone"]
    assert ["cannot be reached" in tool["recommendation_reason"] for tool in found] == [False, True]


async def test_a_candidate_under_the_threshold_is_kept_but_ranks_lower() -> None:
    tools = [
        tool_spec("a", "acme", description="Bake bread and cake with yeast."),
        tool_spec("b", "acme", description="Bake clay."),
    ]

    async def found(threshold: float) -> dict[str, tuple[float, float]]:
        made = engine(similarity_threshold=threshold)
        made.pareto_registry = ParetoMCPRegistry(tools)
        result = await made.execute_rag_mcp_pipeline("bake bread with yeast")
        return {
            item.mcp_spec.name: (item.selection_confidence, item.ranking_factors["over_threshold"])
            for item in result.retrieved_mcps
        }

    strict, lax = await found(0.9), await found(0.0)
    assert strict.keys() == lax.keys() == {"a@acme", "b@acme"}
    assert strict["a@acme"] == lax["a@acme"]
    assert (strict["b@acme"][1], lax["b@acme"][1]) == (0.0, 1.0)
    assert strict["b@acme"][0] == lax["b@acme"][0] / 2


async def test_a_model_reorders_what_matches_and_can_be_left_out_of_one_request() -> None:
    made = RAGMCPEngine(scorer=Preferring("oven@b"), similarity_threshold=0.0)
    made.pareto_registry = ParetoMCPRegistry(
        [
            tool_spec("oven", "a", description="Bake bread."),
            tool_spec("oven", "b", description="Bake bread and cake for the town."),
        ]
    )
    result = await made.execute_rag_mcp_pipeline("bake bread")
    assert names(result)[0] == "oven@b"
    assert result.pipeline_metadata["validated_by"] == "llm"
    alone = await made.execute_rag_mcp_pipeline("bake bread", {"enable_agent_analysis": False})
    assert names(alone) == ["oven@a", "oven@b"]
    assert alone.pipeline_metadata["validated_by"] == "heuristic"


async def test_the_key_is_taken_from_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not RAGMCPEngine()._validator.model_answers
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-from-environment")
    made = RAGMCPEngine()
    monkeypatch.delenv("OPENROUTER_API_KEY")
    assert made.get_performance_analytics()["integration_status"]["agent_analysis_enabled"]


async def test_a_failing_model_leaves_useful_results() -> None:
    made = RAGMCPEngine(scorer=Failing())
    with capture_logs() as logs:
        for _ in range(3):
            assert names(await made.execute_rag_mcp_pipeline(QUERY))[0] == "file_operations_mcp"
    assert len(logs) == 1
    assert not made.get_performance_analytics()["integration_status"]["agent_analysis_enabled"]


async def test_recommendations_have_the_documented_fields_and_a_reason() -> None:
    made = engine()
    made.pareto_registry.add_mcp(tool_spec("unzipper", "acme", description="Unpack a zip archive."))
    made.pareto_registry.add_mcp(tool_spec("old_zip", "acme", description="Unpack zip.", available=False))
    local = tool_spec("archive", "acme", description="An archive.")
    del local.metadata["node"]
    made.pareto_registry.add_mcp(local)
    found = await made.get_mcp_recommendations(QUERY, max_recommendations=5)
    assert set(found[0]) == {
        "name",
        "description",
        "category",
        "capabilities",
        "confidence_score",
        "pareto_score",
        "reliability_score",
        "usage_frequency",
        "recommendation_reason",
    }
    reasons = {item["name"]: item["recommendation_reason"] for item in found}
    assert (
        reasons["unzipper@acme"] == "matches 100% of the request's words, should succeed in 90% of calls "
        "(by tools like it: it was not measured lately), and runs on acme"
    )
    assert reasons["old_zip@acme"].endswith("cannot be reached now")
    assert reasons["file_operations_mcp"].endswith("nothing runs it")
    assert reasons["archive@acme"].endswith("runs here")
    assert json.dumps(found)
    assert len(await made.get_mcp_recommendations(QUERY)) == 3
    assert await made.get_mcp_recommendations("") == []


async def test_a_reason_does_not_deny_the_measurements_that_grew_old() -> None:
    now = 0.0
    unzipper = tool_spec("unzipper", "acme", description="Unpack a zip archive.")
    registry = ParetoMCPRegistry([unzipper], predictor=PerformancePredictor(lambda: now))
    made = engine()
    made.pareto_registry = registry
    for _ in range(25):
        registry.observe("unzipper@acme", success=True, latency_ms=30)

    async def why() -> str:
        return str((await made.recommend(QUERY))[0]["reason"])

    assert "measured" not in await why()
    now = 24 * HALF_LIFE
    assert "by tools like it: it was not measured lately" in await why()


async def test_analytics_count_every_stage_in_milliseconds() -> None:
    made = engine()
    assert made.get_performance_analytics()["total_pipeline_time"] == {
        "count": 0,
        "average_ms": 0.0,
        "min_ms": 0.0,
        "max_ms": 0.0,
        "latest_ms": 0.0,
    }
    for _ in range(3):
        await made.execute_rag_mcp_pipeline(QUERY)
    analytics = made.get_performance_analytics()
    for stage in ("query_encoding", "vector_search", "validation", "mcp_selection", "total_pipeline"):
        figures = analytics[f"{stage}_time"]
        assert figures["count"] == 3
        assert figures["min_ms"] <= figures["average_ms"] <= figures["max_ms"]
        assert figures["min_ms"] <= figures["latest_ms"] <= figures["max_ms"]
    assert analytics["integration_status"] == {
        "llm_validation_enabled": False,
        "agent_analysis_enabled": False,
        "mcp_brainstorming_connected": False,
    }


async def test_a_brainstorming_service_is_told_what_was_selected() -> None:
    with HttpPeer(
        {"POST /api/session/create": {"session_id": "s1"}, "POST /api/rag-mcp/results": {}}
    ) as peer:
        made = engine(mcp_brainstorming_endpoint=f"{peer.url}/api/")
        await made.initialize()
        assert made.get_performance_analytics()["integration_status"]["mcp_brainstorming_connected"]
        result = await made.execute_rag_mcp_pipeline(QUERY, {"top_k": 1})
        told = json.loads(peer.seen[-1].body)
    assert told["session_id"] == "s1"
    assert told["pipeline_id"] == result.query.query_id
    assert [item["name"] for item in told["selected_mcps"]] == names(result)


@pytest.mark.parametrize("answer", [["nonsense"], {"session_id": 7}, None])
async def test_a_brainstorming_service_that_answers_nonsense_is_done_without(answer: Any) -> None:
    routes = {} if answer is None else {"POST /session/create": answer}
    with HttpPeer(routes) as peer, capture_logs():
        made = engine(mcp_brainstorming_endpoint=peer.url)
        assert await made.initialize()
        assert (await made.execute_rag_mcp_pipeline(QUERY)).success
        assert len(peer.seen) == 1


async def test_a_brainstorming_service_that_is_down_is_logged_and_done_without() -> None:
    made = engine(mcp_brainstorming_endpoint=refused_url())
    with capture_logs() as logs:
        assert await made.initialize()
        assert (await made.execute_rag_mcp_pipeline(QUERY)).success
    assert [log["event"] for log in logs] == ["brainstorming_unreachable"]


async def test_a_brainstorming_service_that_hangs_is_waited_for_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(brainstorming, "TIMEOUT", 0.2)
    now = 0.0
    session = brainstorming.BrainstormingSession
    monkeypatch.setattr(rag, "BrainstormingSession", lambda endpoint: session(endpoint, lambda: now))
    free = threading.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.to_thread(free.wait, 10)
        return web.json_response({})

    routes: dict[str, Any] = {"POST /session/create": {"session_id": "1"}, "POST /rag-mcp/results": hang}
    with HttpPeer(routes) as peer, capture_logs() as logs:
        made = engine(mcp_brainstorming_endpoint=peer.url)
        await made.initialize()
        for _ in range(3):
            assert (await made.execute_rag_mcp_pipeline(QUERY)).success
        assert len(peer.seen) == 2
        assert [log["event"] for log in logs] == ["brainstorming_unreachable"]
        free.set()
        peer.routes["POST /rag-mcp/results"] = {"ok": True}
        now = brainstorming.PAUSE
        for _ in range(3):
            assert (await made.execute_rag_mcp_pipeline(QUERY)).success
        assert len(peer.seen) == 5


async def test_a_lone_surrogate_of_a_request_or_a_tool_keeps_no_service_from_answering() -> None:
    async def embeddings(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        return web.json_response(
            {"data": [{"index": place, "embedding": [1.0, 2.0]} for place in range(len(texts))]}
        )

    async def chat(request: web.Request) -> web.StreamResponse:
        asked = json.loads((await request.json())["messages"][1]["content"])
        scores = json.dumps({"scores": [0.5] * len(asked["tools"])})
        return web.json_response({"choices": [{"message": {"content": scores}}]})

    told: Any = {"session_id": "1"}
    routes = {
        "POST /v1/embeddings": embeddings,
        "POST /v1/chat/completions": chat,
        "POST /session/create": told,
        "POST /rag-mcp/results": told,
    }
    with HttpPeer(routes) as peer, capture_logs() as logs:
        api = f"{peer.url}/v1"
        made = RAGMCPEngine(llm_url=api, encoder=f"{api}#model", mcp_brainstorming_endpoint=peer.url)
        made.pareto_registry = ParetoMCPRegistry(
            [tool_spec("oven", "acme", description="Bake \ud800 bread.")]
        )
        await made.initialize()
        result = await made.execute_rag_mcp_pipeline("bake \udc00 bread")
        assert names(result) == ["oven@acme"]
        assert result.pipeline_metadata["searched_by"] == "encoder"
        assert result.pipeline_metadata["validated_by"] == "llm"
        assert "bake ? bread" in peer.seen[-1].body
    assert logs == []


async def test_an_emoji_finds_the_tool_that_is_named_or_described_with_it() -> None:
    made = engine()
    made.pareto_registry.add_mcp(tool_spec("🔥", "acme", description="Lights the stove."))
    made.pareto_registry.add_mcp(tool_spec("snake", "acme", description="Runs 🐍 code."))
    assert matched(await made.execute_rag_mcp_pipeline("🔥")) == ["🔥@acme"]
    assert sorted(matched(await made.execute_rag_mcp_pipeline("🐍🔥"))) == ["snake@acme", "🔥@acme"]
