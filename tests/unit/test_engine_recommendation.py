"""What is recommended: relevance against predictions, and a bounded share of trials."""

import math
from collections.abc import Sequence
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.contract.messages import Tally
from mcp_federation.engine.choice.pareto import Performance, on_grid, surely_dominates
from mcp_federation.engine.choice.predictor import Prediction
from mcp_federation.engine.choice.registry import bounds_of
from mcp_federation.engine.choice.worth import (
    BLIND,
    COLD,
    EXPLORATION_RATE,
    Candidate,
    Explorer,
    Objective,
    rank,
    utility,
)
from mcp_federation.engine.documents import tool_spec
from mcp_federation.engine.rag import RAGMCPEngine
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.engine.validation import Scorer
from mcp_federation.errors import InvalidRequest
from mcp_federation.estimation import LATENCY_PRIOR, SUCCESS_PRIOR


def predicted(count: float, rate: float = 0.95, latency_ms: float = 200.0, cost: float = 0.0) -> Prediction:
    successes, log = count * rate, math.log(latency_ms)
    tally = Tally(
        count=count,
        successes=successes,
        log_latency=successes * log,
        log_latency_squares=successes * (log**2 + 0.1),
    )
    return Prediction(SUCCESS_PRIOR.updated(tally), LATENCY_PRIOR.updated(tally), count, rate, cost)


def names(candidates: list[Candidate], objective: Objective = Objective.BALANCED) -> list[str]:
    return [entry.candidate.name for entry in rank(candidates, objective)]


def test_the_objective_decides_between_tools_that_fit_alike() -> None:
    candidates = [
        Candidate("sure", 1.0, predicted(90, 1.0, 3000, cost=0.05)),
        Candidate("fast", 1.0, predicted(90, 0.9, 20, cost=0.05)),
        Candidate("cheap", 1.0, predicted(90, 0.9, 3000, cost=0.0)),
    ]
    assert names(candidates, Objective.RELIABILITY)[0] == "sure"
    assert names(candidates, Objective.LATENCY)[0] == "fast"
    assert names(candidates, Objective.COST)[0] == "cheap"


def test_a_much_better_match_comes_before_a_somewhat_better_record_but_not_before_a_tool_that_works() -> None:
    fits = Candidate("fits", 1.0, predicted(90, 0.85))
    works = Candidate("works", 0.6, predicted(90, 1.0))
    fails = Candidate("fails", 1.0, predicted(90, 0.05))
    assert names([works, fits]) == ["fits", "works"]
    assert names([fails, works]) == ["works", "fails"]


def test_what_is_surely_worse_than_a_tool_that_fits_as_well_is_off_the_front() -> None:
    good, bad = Candidate("good", 0.9, predicted(90, 1.0)), Candidate("bad", 0.9, predicted(90, 0.3))
    other = Candidate("other", 1.0, predicted(90, 0.3))
    front = {entry.candidate.name: entry.on_front for entry in rank([good, bad, other])}
    assert front == {"good": True, "bad": False, "other": True}


@given(
    st.lists(
        st.builds(
            Candidate,
            st.just("tool"),
            st.sampled_from([0.4, 0.5, 1.0]),
            st.builds(
                predicted, st.sampled_from([3, 90]), st.sampled_from([0.3, 0.9, 1.0]), st.floats(1, 5000)
            ),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_a_candidate_is_off_the_front_where_any_that_can_be_run_and_fits_as_well_dominates_it(
    candidates: list[Candidate],
) -> None:
    for entry in rank(candidates):
        own = on_grid(bounds_of(entry.candidate.prediction))
        assert entry.on_front == (
            not any(
                rival.runnable
                and rival.relevance >= entry.candidate.relevance
                and surely_dominates(on_grid(bounds_of(rival.prediction)), own)
                for rival in candidates
            )
        )


def test_a_thousand_candidates_that_are_alike_are_not_each_compared_with_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = Mock(wraps=surely_dominates)
    monkeypatch.setattr("mcp_federation.engine.choice.worth.surely_dominates", compared)
    alike = predicted(90)
    rank([Candidate(f"tool{n}", n / 1000, alike) for n in range(1000)])
    assert compared.call_count < 2000


def test_what_cannot_be_run_comes_last_and_dominates_nobody() -> None:
    gone = Candidate("gone", 1.0, predicted(90, 1.0, 1), runnable=False)
    here = Candidate("here", 0.5, predicted(90, 0.5))
    first, last = rank([gone, here])
    assert (first.candidate.name, first.on_front, last.candidate.name) == ("here", True, "gone")


@given(st.sampled_from(list(Objective)), st.floats(0, 1), st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_utility_lies_in_its_bounds_and_more_success_is_never_worth_less(
    objective: Objective, success: float, latency: float, cost: float
) -> None:
    worth = utility(objective, success, latency, cost)
    assert 0 <= worth <= success
    assert worth <= utility(objective, 1.0, latency, cost)


def test_cold_tools_are_tried_at_no_more_than_the_stated_rate_and_others_less() -> None:
    explorer = Explorer(random=Random(2))
    proven, cold = Candidate("proven", 1.0, predicted(90, 0.9)), Candidate("cold", 1.0, predicted(2, 1.0))
    ranked = rank([proven, cold])
    tried = 0
    for asked in range(1, 1001):
        first = explorer.explore(ranked)[0]
        tried += first.explored
        assert (first.candidate.name == "cold") == first.explored
        assert tried <= EXPLORATION_RATE * asked + 1
    assert tried > 10
    warm = rank([proven, Candidate("warm", 1.0, predicted(COLD + 1, 0.9))])
    assert sum(explorer.explore(warm)[0].explored for _ in range(1000)) < 2 * tried / 3


def test_those_who_explore_for_each_other_divide_the_rate() -> None:
    ranked = rank([Candidate("proven", 1.0, predicted(90, 0.5)), Candidate("cold", 1.0, predicted(0, 1.0))])
    tried = {}
    for explorers in (1, 2, 5):
        explorer = Explorer(random=Random(2))
        tried[explorers] = sum(explorer.explore(ranked, explorers=explorers)[0].explored for _ in range(8000))
        assert tried[explorers] <= 8000 * EXPLORATION_RATE / explorers
    assert tried[1] > tried[2] > tried[5] > 0


def test_a_chance_to_explore_waits_for_a_sample_that_uses_it_so_that_one_failure_is_not_the_end() -> None:
    def tried(other: Prediction) -> int:
        explorer = Explorer(random=Random(2))
        ranked = rank([Candidate("proven", 1.0, predicted(90, 0.9)), Candidate("other", 1.0, other)])
        return sum(explorer.explore(ranked)[0].explored for _ in range(2000))

    chances = 2000 * EXPLORATION_RATE
    assert chances / 2 < tried(predicted(1, 0.0)) <= chances
    assert tried(predicted(12, 0.5)) < chances / 4


def test_no_word_of_others_keeps_a_tool_from_ever_being_tried() -> None:
    explorer = Explorer(random=Random(2))
    smeared = rank(
        [Candidate("praised", 1.0, predicted(90, 1.0)), Candidate("smeared", 1.0, predicted(90, 0.0))]
    )
    tried = sum(explorer.explore(smeared)[0].explored for _ in range(5000))
    assert 0 < tried <= 5000 * EXPLORATION_RATE * BLIND


def test_a_tool_that_fits_worse_is_not_tried() -> None:
    explorer = Explorer(rate=1.0, random=Random(2))
    ranked = rank([Candidate("proven", 1.0, predicted(90, 0.5)), Candidate("cold", 0.5, predicted(0, 1.0))])
    assert not any(explorer.explore(ranked)[0].explored for _ in range(100))


def engine(*nodes: str, scorer: Scorer | None = None) -> RAGMCPEngine:
    made = RAGMCPEngine(enable_llm_validation=scorer is not None, scorer=scorer)
    for node in nodes:
        made.pareto_registry.add_mcp(
            tool_spec("orbit", node, description="Computes the orbit of a satellite around a planet.")
        )
    made.pareto_registry.add_mcp(tool_spec("soup", "acme", description="Cooks a soup of vegetables."))
    return made


async def test_the_same_tool_on_several_nodes_is_one_recommendation_with_several_providers() -> None:
    made = engine("acme", "globex", "initech")
    registry = made.pareto_registry
    registry.add_mcp(
        tool_spec(
            "orbit",
            "gone",
            description="Computes the orbit of a satellite around a planet.",
            available=False,
        )
    )
    registry.add_mcp(tool_spec("orbit", "hooli", description="Follows comets on their way."))
    text = "Computes the orbit of a satellite around a planet."
    registry.add_mcp(tool_spec("orbit", "another", description=text, server="games"))
    registry.record_performance("orbit@globex", Performance(500, 1.0, 10.0))
    registry.record_performance("orbit@acme", Performance(500, 0.2, 10.0))
    best = (await made.recommend("the orbit of a satellite"))[0]
    assert best["name"] == "orbit@globex"
    listed = [(provider["node"], provider["available"]) for provider in best["providers"]]
    assert listed[0] == ("globex", True)
    assert listed[-1] == ("gone", False)
    assert {node for node, _ in listed} == {"globex", "acme", "initech", "gone"}
    assert best["success_probability"] > 0.8
    assert best["latency_ms"]["p50"] <= best["latency_ms"]["p90"] <= best["latency_ms"]["p99"]
    assert best["matched_terms"]
    assert best["similarity"] > 0
    assert "not measured" not in best["reason"]
    assert best["reason"].endswith("and runs on globex")


async def test_a_tool_that_changes_or_goes_while_a_model_thinks_is_recommended_as_it_is_then() -> None:
    class Thinking:
        async def scores(self, _query: str, specs: Sequence[MCPToolSpec]) -> list[float]:
            registry.add_mcp(tool_spec("orbit", "acme", description="Computes orbits of satellites, in km."))
            registry.remove_mcp("orbit@globex")
            return [1.0] * len(specs)

    made = engine("acme", "globex", scorer=Thinking())
    registry = made.pareto_registry
    best = (await made.recommend("the orbit of a satellite"))[0]
    assert (best["name"], best["description"]) == ("orbit@acme", "Computes orbits of satellites, in km.")
    assert [provider["name"] for provider in best["providers"]] == ["orbit@acme"]


async def test_a_tool_that_surely_fails_gives_up_its_place_to_one_that_fits_somewhat_less() -> None:
    made = engine()
    registry = made.pareto_registry
    registry.add_mcp(tool_spec("orbit", "acme", description="Computes the orbit of a satellite."))
    registry.add_mcp(
        tool_spec("satellite_orbit", "globex", description="Works out the orbit of a satellite or comet.")
    )

    async def first() -> str:
        return str((await made.get_mcp_recommendations("compute the orbit of a satellite"))[0]["name"])

    assert await first() == "orbit@acme"
    registry.observe("orbit@acme", success=False, latency_ms=5)
    assert await first() == "orbit@acme", "one failure may be chance"
    for _ in range(20):
        registry.observe("orbit@acme", success=False, latency_ms=5)
    assert await first() == "satellite_orbit@globex"
    for _ in range(20):
        registry.observe("orbit@acme", success=True, latency_ms=5)
    assert await first() == "orbit@acme"


async def test_each_result_of_a_request_tells_what_is_predicted_and_its_place_on_the_front() -> None:
    made = engine()
    registry = made.pareto_registry
    for node in ("acme", "globex", "gone"):
        description = f"Computes the orbit of a satellite for {node}."
        registry.add_mcp(tool_spec("orbit", node, description=description, available=node != "gone"))
    registry.record_performance("orbit@globex", Performance(5000, 1.0, 10.0))
    registry.record_performance("orbit@acme", Performance(5000, 0.2, 500.0))
    registry.record_performance("orbit@gone", Performance(5000, 1.0, 1.0))
    result = await made.execute_rag_mcp_pipeline("the orbit of a satellite")
    told = {found.mcp_spec.name: found.ranking_factors for found in result.retrieved_mcps}
    for name, factors in told.items():
        expected = registry.predict(name)
        assert factors["success_probability"] == pytest.approx(expected.success_probability, rel=1e-3)
        assert factors["p50_ms"] == pytest.approx(expected.p50_ms, rel=1e-3)
    front = {name: told[name]["on_front"] for name in ("orbit@globex", "orbit@acme", "orbit@gone")}
    assert front == {"orbit@globex": 1.0, "orbit@acme": 0.0, "orbit@gone": 0.0}


async def test_milliseconds_decide_between_providers_that_succeed_alike_and_not_before_success() -> None:
    made = engine("acme", "globex")
    for node, latency_ms in (("acme", 10.6), ("globex", 3.3)):
        for _ in range(30):
            made.pareto_registry.observe(f"orbit@{node}", success=True, latency_ms=latency_ms)

    async def first() -> str:
        return str((await made.recommend("the orbit of a satellite", Objective.LATENCY))[0]["name"])

    assert await first() == "orbit@globex"
    for _ in range(2):
        made.pareto_registry.observe("orbit@globex", success=False, latency_ms=3.3)
    assert await first() == "orbit@acme"


async def test_a_tool_that_fails_loses_its_place_to_another_provider() -> None:
    made = engine("acme", "globex")
    for node in ("acme", "globex"):
        made.pareto_registry.record_performance(f"orbit@{node}", Performance(500, 0.95, 10.0))

    async def first() -> str:
        return str((await made.recommend("the orbit of a satellite", Objective.RELIABILITY))[0]["name"])

    loser = await first()
    for _ in range(20):
        made.pareto_registry.observe(loser, success=False, latency_ms=10)
    assert await first() != loser
    for _ in range(100):
        made.pareto_registry.observe(loser, success=True, latency_ms=10)
    assert await first() == loser


@pytest.mark.parametrize(("query", "objective"), [("", "balanced"), ("orbit", "best")])
async def test_a_request_that_cannot_be_used_is_refused(query: str, objective: str) -> None:
    with pytest.raises(InvalidRequest):
        await engine("acme").recommend(query, objective)


@pytest.mark.parametrize("limit", [0, 251, True, 2.0, None, "3"])
async def test_a_limit_that_cannot_be_used_is_named_in_the_refusal(limit: Any) -> None:
    with pytest.raises(InvalidRequest, match="limit must be a whole number from 1 to 250"):
        await engine("acme").recommend("orbit", limit=limit)
