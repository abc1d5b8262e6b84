"""The interface of the parent's engine, member by member: code written against it keeps working."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from alita_kgot_enhanced.federation.federated_rag_mcp_engine import FederatedRAGMCPEngine, RAGMCPEngine
from mcp_federation.engine.choice.pareto import pareto_score
from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.types import (
    MCPCategory,
    MCPRetrievalResult,
    MCPToolSpec,
    PipelineStage,
    RAGMCPPipelineResult,
    RAGMCPQuery,
)

ARGUMENTS = {
    "openrouter_api_key": None,
    "vector_dimensions": 1536,
    "similarity_threshold": 0.7,
    "top_k_candidates": 5,
    "enable_llm_validation": True,
    "cache_directory": None,
    "mcp_brainstorming_endpoint": None,
}
RECOMMENDATION = {
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
PRIORS = """\
web_scraper_mcp web_information 0.25 0.92 0.88
browser_automation_mcp web_information 0.22 0.89 0.85
search_engine_mcp web_information 0.18 0.94 0.91
wikipedia_mcp web_information 0.15 0.96 0.93
pandas_toolkit_mcp data_processing 0.20 0.91 0.87
file_operations_mcp data_processing 0.17 0.93 0.89
text_processing_mcp data_processing 0.16 0.90 0.86
image_processing_mcp data_processing 0.14 0.88 0.84
api_client_mcp communication 0.19 0.92 0.88
email_client_mcp communication 0.12 0.89 0.85
calendar_scheduling_mcp communication 0.10 0.87 0.83
code_execution_mcp development 0.21 0.90 0.86
git_operations_mcp development 0.13 0.91 0.87
database_mcp development 0.11 0.89 0.85
docker_container_mcp development 0.09 0.88 0.84"""
QUERY = "scrape the prices of a web page"


@pytest.mark.parametrize("engine", [RAGMCPEngine, FederatedRAGMCPEngine])
def test_the_constructor_takes_the_parents_arguments_in_order_with_its_defaults(engine: Any) -> None:
    given = list(inspect.signature(engine).parameters.values())[: len(ARGUMENTS)]
    assert {parameter.name: parameter.default for parameter in given} == ARGUMENTS
    assert [parameter.name for parameter in given] == list(ARGUMENTS)


async def test_each_member_gives_what_the_parents_gives() -> None:
    engine = RAGMCPEngine(enable_llm_validation=False)
    assert await engine.initialize() is True
    result = await engine.execute_rag_mcp_pipeline(QUERY, {"top_k": 2, "enable_agent_analysis": False})
    assert isinstance(result, RAGMCPPipelineResult)
    assert len(result.retrieved_mcps) <= 2
    of_category = await engine.execute_rag_mcp_pipeline(QUERY, {"filter_category": "development"})
    assert {found.mcp_spec.category for found in of_category.retrieved_mcps} <= {MCPCategory.DEVELOPMENT}
    [recommended] = await engine.get_mcp_recommendations(QUERY, max_recommendations=1)
    assert set(recommended) == RECOMMENDATION
    assert recommended["name"] == "web_scraper_mcp"
    analytics = engine.get_performance_analytics()
    for stage in (*PipelineStage, "total_pipeline"):
        timing = analytics[f"{stage}_time"]
        assert set(timing) == {"count", "average_ms", "min_ms", "max_ms", "latest_ms"}
        assert timing["count"] == 3


def test_the_registry_has_the_parents_members() -> None:
    registry = RAGMCPEngine(enable_llm_validation=False).pareto_registry
    assert isinstance(registry, ParetoMCPRegistry)
    assert len(registry.mcps) == 15
    assert {spec.category for spec in registry.get_mcps_by_category(MCPCategory.DEVELOPMENT)} == {
        "development"
    }
    top = registry.get_top_pareto_mcps(3)
    assert [spec.pareto_score for spec in top] == sorted((spec.pareto_score for spec in top), reverse=True)
    scraper = registry.get_mcp_by_name("web_scraper_mcp")
    assert scraper is not None
    assert (scraper.usage_frequency, scraper.reliability_score, scraper.cost_efficiency) == (0.25, 0.92, 0.88)
    assert scraper.pareto_score == pareto_score(0.25, 0.92, 0.88) == 0.642


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            MCPToolSpec,
            "name description capabilities category usage_frequency reliability_score cost_efficiency "
            "pareto_score metadata embedding indexed_at",
        ),
        (
            RAGMCPQuery,
            "query_id original_query encoded_query processing_metadata pipeline_stage created_at",
        ),
        (
            MCPRetrievalResult,
            "mcp_spec similarity_score relevance_score validation_score selection_confidence ranking_factors",
        ),
        (
            RAGMCPPipelineResult,
            "query retrieved_mcps pipeline_metadata processing_time_ms success error_message",
        ),
    ],
)
def test_the_types_begin_with_the_parents_fields(kind: Any, names: str) -> None:
    wanted = names.split()
    assert [field.name for field in fields(kind)][: len(wanted)] == wanted


def test_the_categories_and_stages_are_the_parents() -> None:
    assert list(MCPCategory) == ["web_information", "data_processing", "communication", "development"]
    assert list(PipelineStage) == ["query_encoding", "vector_search", "validation", "mcp_selection"]


@pytest.mark.parametrize("row", PRIORS.split("\n"))
def test_the_static_registry_is_the_parents(row: str) -> None:
    name, category, *figures = row.split()
    registry = RAGMCPEngine(enable_llm_validation=False).pareto_registry
    spec = registry.get_mcp_by_name(name)
    assert spec is not None
    assert spec.category == category
    usage, reliability, cost = map(float, figures)
    assert (spec.usage_frequency, spec.reliability_score, spec.cost_efficiency) == (usage, reliability, cost)
    assert spec.pareto_score == pytest.approx(0.4 * usage + 0.35 * reliability + 0.25 * cost, abs=0.0006)
    assert spec.metadata["executable"] is False


async def test_as_many_candidates_are_found_as_the_engine_or_the_request_says() -> None:
    engine = RAGMCPEngine(similarity_threshold=0.0, top_k_candidates=3, enable_llm_validation=False)
    assert len((await engine.execute_rag_mcp_pipeline("data")).retrieved_mcps) == 3
    assert len((await engine.execute_rag_mcp_pipeline("data", {"top_k": 1})).retrieved_mcps) == 1


def test_the_readmes_snippet_runs() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [snippet] = re.findall(r"^python - <<'PY'\n(.*?)^PY$", readme, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "15 total MCPs (local + remote)\n"
