import math
from typing import Any

import pytest

from mcp_federation.contract.messages import Tally
from mcp_federation.engine.choice.pareto import Performance
from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.documents import tool_spec
from mcp_federation.engine.priors import UNKNOWN, prior_figures
from mcp_federation.engine.types import MCPCategory, MCPToolSpec


def custom(name: str = "custom_analytics_tool", usage: float = 0.75) -> MCPToolSpec:
    return MCPToolSpec(name, "Analytics", [], MCPCategory.DATA_PROCESSING, usage, 0.9, 0.8)


def test_a_new_registry_lists_the_fifteen_priors_and_says_that_none_can_be_executed() -> None:
    registry = ParetoMCPRegistry()
    assert len(registry.mcps) == 15
    assert len({spec.name for spec in registry.mcps}) == 15
    assert not any(spec.metadata["executable"] or spec.runnable for spec in registry.mcps)


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("web_scraper_mcp", 0.642),
        ("wikipedia_mcp", 0.628),
        ("code_execution_mcp", 0.614),
        ("docker_container_mcp", 0.554),
    ],
)
def test_a_prior_has_the_documented_score(name: str, score: float) -> None:
    spec = ParetoMCPRegistry().get_mcp_by_name(name)
    assert spec is not None
    assert spec.pareto_score == score


def test_every_category_has_its_priors() -> None:
    registry = ParetoMCPRegistry()
    counts = {category: len(registry.get_mcps_by_category(category)) for category in MCPCategory}
    assert list(counts.values()) == [4, 4, 3, 4]
    assert registry.get_mcps_by_category("development") == registry.get_mcps_by_category(
        MCPCategory.DEVELOPMENT
    )


def test_the_top_is_sorted_by_score_and_cut_at_the_limit() -> None:
    top = ParetoMCPRegistry().get_top_pareto_mcps(4)
    assert top[0].name == "web_scraper_mcp"
    assert {spec.name for spec in top[1:3]} == {"search_engine_mcp", "wikipedia_mcp"}
    assert top[3].name == "api_client_mcp"
    assert len(top) == 4
    assert ParetoMCPRegistry().get_top_pareto_mcps(-1) == []
    assert len(ParetoMCPRegistry().get_top_pareto_mcps()) == 10


def test_a_custom_tool_is_added_scored_replaced_in_its_place_and_removed() -> None:
    registry = ParetoMCPRegistry([custom("a"), custom("b")])
    assert registry.mcps[0].pareto_score == 0.815
    before = registry.mcps
    registry.add_mcp(custom("a", usage=0.0))
    assert [spec.name for spec in registry.mcps] == ["a", "b"]
    assert registry.mcps[0].pareto_score == 0.515
    assert before[0].pareto_score == 0.815
    assert registry.remove_mcp("a")
    assert not registry.remove_mcp("a")
    assert [spec.name for spec in registry.mcps] == ["b"]
    assert registry.get_mcp_by_name("a") is None


def test_a_prior_turns_executable_while_a_real_tool_of_its_name_stands_behind_it() -> None:
    registry = ParetoMCPRegistry()
    prior = registry.get_exact("file_operations_mcp")
    assert prior is not None
    registry.add_mcp(tool_spec("file_operations_mcp", "acme", executable=False))
    assert not prior.metadata["executable"]
    registry.add_mcp(tool_spec("file_operations_mcp", "globex", available=False))
    assert prior.metadata["executable"]
    assert not prior.runnable
    registry.add_mcp(tool_spec("file_operations_mcp", "initech"))
    assert prior.runnable
    assert len(registry.mcps) == 18
    for node in ("acme", "globex", "initech"):
        registry.remove_mcp(f"file_operations_mcp@{node}")
    assert not prior.metadata["executable"]
    assert not prior.metadata["available"]


def test_a_tool_that_joins_many_of_its_name_costs_a_look_at_itself_alone() -> None:
    looks: list[str] = []

    class Watched(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            looks.append(key)
            return super().get(key, default)

    def watched(node: str) -> MCPToolSpec:
        spec = tool_spec("database_mcp", node, executable=False)
        spec.metadata = Watched(spec.metadata)
        return spec

    registry = ParetoMCPRegistry()
    registry.add_mcp(watched("first"))
    of_one = len(looks)
    for number in range(50):
        registry.add_mcp(watched(f"node{number}"))
    assert len(looks) == 51 * of_one


def test_a_real_tool_has_its_priors_figures_until_it_is_measured() -> None:
    registry = ParetoMCPRegistry()
    spec = tool_spec("database_mcp@acme", "partner.example")
    registry.add_mcp(spec)
    assert (spec.usage_frequency, spec.reliability_score, spec.cost_efficiency) == prior_figures(
        "database_mcp"
    )
    registry.record_performance(spec.name, Performance(0, 0.0, 0.0))
    assert spec.reliability_score == 0.89
    registry.record_performance(spec.name, Performance(100, 0.5, 20.0, 0.01))
    assert (spec.usage_frequency, spec.reliability_score, spec.cost_efficiency) == (0.5, 0.5, 0.5)
    assert spec.pareto_score == 0.5


def test_an_unknown_tool_starts_with_neutral_figures() -> None:
    registry = ParetoMCPRegistry([tool_spec("anything", "acme")])
    assert registry.mcps[0].pareto_score == 0.3
    assert prior_figures("anything") == UNKNOWN


def test_a_measurement_outlives_the_tools_withdrawal_and_may_come_before_it() -> None:
    registry = ParetoMCPRegistry([])
    measured = Performance(50, 0.9, 12.0)
    registry.record_performance("clock@acme", measured)
    registry.add_mcp(tool_spec("clock", "acme"))
    registry.remove_mcp("clock@acme")
    registry.add_mcp(tool_spec("clock", "acme"))
    assert registry.mcps[0].reliability_score == 0.9
    assert registry.performance("clock@acme") == measured
    assert registry.performance("clock@globex") is None


def test_of_tools_that_went_only_the_latest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_federation.engine.choice.registry.MAX_GONE", 2)
    registry = ParetoMCPRegistry([])
    specs = [tool_spec("oven", f"node{number}", server="kitchen") for number in range(4)]
    for spec in specs:
        registry.add_mcp(spec)
        registry.record_performance(spec.name, Performance(100, 0.1, 20.0))
    for spec in specs:
        registry.remove_mcp(spec.name)
    kept = [registry.performance(spec.name) is not None for spec in specs]
    known = [registry.predict(spec.name).executions > 0 for spec in specs]
    assert kept == known == [False, False, True, True]
    registry.add_mcp(specs[2])
    registry.remove_mcp(specs[2].name)
    registry.add_mcp(tool_spec("stove", "another"))
    registry.remove_mcp("stove@another")
    assert registry.performance(specs[2].name)
    assert not registry.performance(specs[3].name)


def test_a_plain_name_finds_the_best_tool_that_has_it() -> None:
    registry = ParetoMCPRegistry([tool_spec("clock", node) for node in ("acme", "globex", "initech")])
    registry.add_mcp(tool_spec("clock", "acme", available=False))
    registry.record_performance("clock@acme", Performance(1000, 1.0, 1.0))
    registry.record_performance("clock@initech", Performance(10, 1.0, 1.0))
    found = registry.get_mcp_by_name("clock")
    assert found is not None
    assert found.name == "clock@initech"
    assert [spec.name for spec in registry.providers("clock")] == [
        "clock@initech",
        "clock@globex",
        "clock@acme",
    ]


def test_a_name_that_a_partner_lists_with_its_node_is_found_with_and_without_it() -> None:
    registry = ParetoMCPRegistry([tool_spec("time.now@acme", "partner.example")])
    for name in ("time.now", "time.now@acme", "time.now@acme@partner.example"):
        assert registry.get_mcp_by_name(name) is registry.mcps[0]


def test_the_front_holds_the_measured_runnable_tools_that_no_other_dominates() -> None:
    registry = ParetoMCPRegistry(
        [tool_spec(name, "acme") for name in ("fast", "cheap", "worse", "unmeasured")]
    )
    registry.add_mcp(tool_spec("gone", "acme", available=False))
    registry.record_performance("fast@acme", Performance(500, 1.0, 10.0, 0.5))
    registry.record_performance("cheap@acme", Performance(500, 1.0, 90.0, 0.1))
    registry.record_performance("worse@acme", Performance(500, 0.7, 300.0, 0.2))
    registry.record_performance("gone@acme", Performance(500, 1.0, 1.0, 0.0))
    assert [spec.name for spec in registry.get_pareto_front()] == ["fast@acme", "cheap@acme"]


def test_every_measurement_finds_the_front_and_the_score_anew() -> None:
    registry = ParetoMCPRegistry([tool_spec("clock", node) for node in ("acme", "globex")])
    for node in ("acme", "globex"):
        registry.record_performance(f"clock@{node}", Performance(500, 0.95, 50.0))
    assert len(registry.get_pareto_front()) == 2
    before = registry.get_exact("clock@acme")
    assert before is not None
    score = before.pareto_score
    for _ in range(40):
        registry.observe("clock@acme", success=False, latency_ms=50.0)
    assert before.pareto_score < score - 0.1
    assert [spec.name for spec in registry.get_pareto_front()] == ["clock@globex"]
    registry.remove_mcp("clock@globex")
    assert [spec.name for spec in registry.get_pareto_front()] == ["clock@acme"]


@pytest.mark.parametrize("latency", [math.nan, math.inf, -math.inf, -1.0])
def test_a_call_whose_latency_is_none_is_refused_and_spoils_nothing(latency: float) -> None:
    registry = ParetoMCPRegistry([custom()])
    before = registry.predict("custom_analytics_tool")
    with pytest.raises(ValueError, match="latency"):
        registry.observe("custom_analytics_tool", success=True, latency_ms=latency)
    assert registry.predict("custom_analytics_tool") == before
    assert registry.get_pareto_front() == []


@pytest.mark.parametrize("field", ["count", "successes", "log_latency", "cost", "noise"])
@pytest.mark.parametrize("sum_", [math.nan, math.inf])
def test_a_report_with_a_sum_that_is_no_number_is_none(field: str, sum_: float) -> None:
    report = Tally(**{"count": 1.0, field: sum_})
    with pytest.raises(ValueError, match="finite"):
        Performance(count=1, success_rate=1.0, latency_ms=1.0, provider="acme", reports={"acme": report})


def test_a_listener_hears_of_every_name_that_changes_until_it_unsubscribes() -> None:
    registry = ParetoMCPRegistry()
    heard: list[str] = []
    registry.subscribe(heard.append)
    registry.add_mcp(tool_spec("database_mcp", "acme"))
    assert set(heard) == {"database_mcp@acme", "database_mcp"}
    heard.clear()
    registry.remove_mcp("database_mcp@acme")
    assert set(heard) == {"database_mcp@acme", "database_mcp"}
    registry.unsubscribe(heard.append)
    heard.clear()
    registry.add_mcp(custom())
    assert heard == []
