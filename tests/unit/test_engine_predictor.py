"""What is predicted of tools: from their own evidence, from what stands around them, from whom one trusts."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mcp_federation.contract.messages import Tally
from mcp_federation.engine.choice.levels import FIRST_GUESS
from mcp_federation.engine.choice.predictor import (
    EXPLORERS,
    HALF_LIFE,
    NOISY_EXPLORERS,
    PerformancePredictor,
    Place,
)
from mcp_federation.engine.choice.reporter_trust import ReporterTrust
from mcp_federation.estimation import EMPTY, HALF_COST, OWN_WEIGHT

FILES = Place("files", "acme", "data_processing")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def seen(count: float, rate: float = 1.0, latency_ms: float = 100.0) -> Tally:
    successes, log = count * rate, math.log(latency_ms)
    squares = successes * (log**2 + 0.1)
    return Tally(count=count, successes=successes, log_latency=successes * log, log_latency_squares=squares)


def success(predictor: PerformancePredictor, name: str) -> float:
    return predictor.predict(name).success_probability


def observe(predictor: PerformancePredictor, name: str, *outcomes: bool) -> None:
    for outcome in outcomes:
        predictor.observe(name, success=outcome, latency_ms=100.0)


def test_of_a_tool_that_nobody_knows_something_sensible_is_expected() -> None:
    prediction = PerformancePredictor().predict("unheard")
    assert 0.5 < prediction.success_probability < 1
    assert prediction.executions == 0
    assert prediction.measured is None
    low, high = prediction.success_interval
    assert high - low > 0.3


def test_a_tool_is_expected_to_be_like_its_server_its_node_and_its_category_the_closest_most() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        predictor.put(f"bad{number}", FILES)
        predictor.report(f"bad{number}", "acme", {"globex": seen(50, 0.1, 2000)})
        predictor.put(f"good{number}", Place("maths", "initech", "data_processing"))
        predictor.report(f"good{number}", "initech", {"globex": seen(50, 1.0, 10)})
    new = {
        "same server": FILES,
        "same node": Place("other", "acme", "data_processing"),
        "same category": Place("other", "hooli", "data_processing"),
        "good server": Place("maths", "initech", "data_processing"),
    }
    for name, place in new.items():
        predictor.put(name, place)
    expected = [success(predictor, name) for name in new]
    assert expected == sorted(expected)
    assert expected[0] < 0.3 < expected[2] < 0.8 < expected[3]
    assert predictor.predict("same server").p50_ms > 5 * predictor.predict("good server").p50_ms


def test_the_many_tools_of_one_node_do_not_say_how_those_of_others_are() -> None:
    predictor = PerformancePredictor()
    for number in range(30):
        node = f"node{number % 10}"
        predictor.put(f"good{number}", Place("tools", node, "data_processing"))
        predictor.report(f"good{number}", node, {"globex": seen(50, 1.0)})
    newcomer = Place("tools", "newcomer", "data_processing")
    predictor.put("new", newcomer)
    before = success(predictor, "new")
    for number in range(300):
        predictor.put(f"bad{number}", FILES)
        predictor.report(f"bad{number}", "acme", {"globex": seen(50, 0.0)})
    assert success(predictor, "new") > before - 0.2
    predictor.put("bad", FILES)
    assert success(predictor, "bad") < 0.2


def test_what_is_known_of_levels_goes_with_the_last_of_their_tools() -> None:
    clock = Clock()
    predictor = PerformancePredictor(clock)
    for number in range(40):
        predictor.put(f"bad{number}", FILES)
        predictor.report(f"bad{number}", "acme", {"globex": seen(50, 0.1)})
        clock.now += 100
    for number in range(40):
        predictor.forget(f"bad{number}")
        clock.now += 100
    predictor.put("new", FILES)
    assert success(predictor, "new") == pytest.approx(FIRST_GUESS)


def test_a_tools_own_executions_outweigh_what_stands_around_it() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        predictor.put(f"bad{number}", FILES)
        predictor.report(f"bad{number}", "acme", {"globex": seen(50, 0.1)})
    predictor.put("good", FILES)
    assert success(predictor, "good") < 0.35
    predictor.report("good", "acme", {f"org{number}": seen(80, 1.0) for number in range(4)})
    assert success(predictor, "good") > 0.9


def test_a_tools_own_executions_are_not_counted_again_as_its_surroundings() -> None:
    predictor = PerformancePredictor()
    predictor.put("only", FILES)
    predictor.report("only", "acme", {"globex": seen(50, 0.2)})
    unplaced = PerformancePredictor()
    unplaced.report("only", "acme", {"globex": seen(50, 0.2)})
    assert success(predictor, "only") == pytest.approx(success(unplaced, "only"), abs=0.01)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(["put", "report", "observe"]),
            st.integers(0, 3),
            st.floats(0, 1e9),
            st.floats(-1e15, 1e15),
        ),
        max_size=40,
    )
)
def test_whatever_comes_in_every_prediction_is_one(steps: list[tuple[str, str, int, float, float]]) -> None:
    predictor, random = PerformancePredictor(Clock()), Random(1)
    for name, step, which, count, total in steps:
        if step == "put":
            predictor.put(name, Place(f"s{which}", f"n{which % 2}", "c"))
        elif step == "report":
            reported = Tally(count=count, successes=total, log_latency=total, noise=abs(total))
            predictor.report(name, "n0", {f"n{which}": reported})
        else:
            predictor.observe(name, success=bool(which % 2), latency_ms=count)
    for name in "abcd":
        prediction = predictor.predict(name)
        assert 0 < prediction.success_probability < 1
        assert prediction.p50_ms <= prediction.quantile_ms(0.9) <= prediction.quantile_ms(0.99)
        assert prediction.executions >= 0
        chance, latency = prediction.sampled(random)
        assert 0 <= chance <= 1
        assert math.isfinite(latency)


def test_a_tool_that_starts_failing_is_noticed_here_within_twenty_calls_and_so_is_that_it_healed() -> None:
    predictor = PerformancePredictor()
    predictor.report("breaks", "acme", {"globex": seen(100, 0.98)})
    predictor.report("rival", "initech", {"globex": seen(100, 0.9)})
    assert success(predictor, "breaks") > success(predictor, "rival")
    observe(predictor, "breaks", *[False] * 20)
    assert success(predictor, "breaks") < success(predictor, "rival") - 0.05
    observe(predictor, "breaks", *[True] * 60)
    assert success(predictor, "breaks") > success(predictor, "rival")


@pytest.mark.parametrize("heard", [True, False])
def test_old_evidence_gives_way(heard: bool) -> None:
    clock = Clock()
    predictor = PerformancePredictor(clock)
    if heard:
        predictor.report("t", "acme", {"globex": seen(100, 0.0)})
    else:
        observe(predictor, "t", *[False] * 20)
    before = predictor.predict("t")
    clock.now += 8 * HALF_LIFE
    after = predictor.predict("t")
    assert after.executions < before.executions / 20
    assert after.success_probability > before.success_probability + 0.3


def paid(count: float, cost: float) -> Tally:
    return replace(seen(count), cost=count * cost)


def test_a_strangers_word_of_a_cost_makes_no_tool_dear() -> None:
    predictor = PerformancePredictor()
    predictor.report("known", "acme", {"globex": seen(20), "stranger": paid(1, 1e9)})
    predictor.report("new", "acme", {"stranger": paid(1, 1e9)})
    assert predictor.predict("known").mean_cost < HALF_COST / 10
    assert predictor.predict("new").mean_cost < HALF_COST / 5
    predictor.report("dear", "acme", {f"caller{which}": paid(90, 0.03) for which in range(3)})
    assert 0.02 < predictor.predict("dear").mean_cost <= 0.03


def test_what_a_tool_costs_is_not_forgotten_as_it_is_called_but_with_time() -> None:
    clock = Clock()
    predictor = PerformancePredictor(clock)
    predictor.report("t", "acme", {"globex": paid(90, 0.03)})
    before = predictor.predict("t").mean_cost
    observe(predictor, "t", *[True] * 50)
    assert predictor.predict("t").mean_cost >= before > 0.01
    clock.now += 8 * HALF_LIFE
    assert predictor.predict("t").mean_cost < before / 10


def test_what_is_expected_of_a_servers_other_tools_grows_old_with_it() -> None:
    clock = Clock()
    predictor = PerformancePredictor(clock)
    for name in ("broken", "new"):
        predictor.put(name, FILES)
    predictor.report("broken", "acme", {"globex": seen(100, 0.0)})
    before = success(predictor, "new")
    clock.now += 8 * HALF_LIFE
    assert success(predictor, "new") > before + 0.3


def test_a_provider_that_inflates_itself_is_outweighed_and_no_longer_believed_elsewhere() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        reports = {"acme": seen(100, 1.0), "globex": seen(40, 0.3), "hooli": seen(40, 0.3)}
        predictor.report(f"lied about {number}", "acme", reports)
    assert success(predictor, "lied about 0") < 0.45
    predictor.report("new", "acme", {"acme": seen(100, 1.0)})
    predictor.report("honest", "initech", {"initech": seen(100, 1.0)})
    assert predictor.trust.of("acme") < 0.2
    assert predictor.predict("new").executions < predictor.predict("honest").executions / 4


def test_a_caller_that_smears_a_tool_is_outvoted_by_others() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        reports = {f"honest{which}": seen(50, 0.95) for which in range(3)}
        predictor.report(f"t{number}", "acme", {**reports, "liar": seen(100, 0.0)})
    assert predictor.trust.of("liar") < 0.1
    assert all(predictor.trust.of(f"honest{which}") > 0.3 for which in range(3))
    assert success(predictor, "t0") > 0.85


def test_who_offers_the_same_tool_is_no_witness_against_another() -> None:
    predictor = PerformancePredictor()
    for name in ("acme", "hooli"):
        predictor.put(f"clock@{name}", Place("s", name, "c", "clock"))
    smear = {"hooli": seen(100, 0.0), "globex": seen(20, 1.0)}
    predictor.report("clock@acme", "acme", smear)
    disinterested = PerformancePredictor()
    disinterested.report("clock@acme", "acme", smear)
    assert success(predictor, "clock@acme") > success(disinterested, "clock@acme") + 0.2


def test_who_offers_the_like_is_heard_about_a_rival_only_after_it_proved_right_elsewhere() -> None:
    found = []
    for proved in (0, 4):
        predictor = PerformancePredictor()
        for name in ("acme", "hooli"):
            predictor.put(f"clock@{name}", Place("s", name, "c", "clock"))
        for number in range(proved):
            predictor.report(f"t{number}", "initech", {"hooli": seen(50, 0.9), "globex": seen(50, 0.9)})
        before = success(predictor, "clock@acme")
        predictor.report("clock@acme", "acme", {"hooli": seen(100, 0.0)})
        found.append(before - success(predictor, "clock@acme"))
    assert found[0] == 0
    assert found[1] > 0.3


def test_a_provider_that_proved_right_about_its_other_tools_is_believed_more() -> None:
    predictor = PerformancePredictor()
    before = predictor.trust.credit("acme", of_a_rival=False)
    for number in range(6):
        predictor.report(f"t{number}", "acme", {"acme": seen(50, 0.9), "globex": seen(50, 0.9)})
    assert predictor.trust.credit("acme", of_a_rival=False) > 4 * before
    assert predictor.trust.credit("acme", of_a_rival=True) == OWN_WEIGHT


def test_what_a_provider_whom_nobody_knows_says_of_itself_counts_for_little() -> None:
    predictor = PerformancePredictor()
    predictor.report("clock", "acme", {"acme": seen(100)})
    assert predictor.predict("clock").executions == pytest.approx(4 / 3)


def test_what_others_say_gives_way_where_a_few_calls_from_here_contradict_it() -> None:
    predictor = PerformancePredictor()
    predictor.report("broke", "acme", {f"caller{which}": seen(30, 0.95) for which in range(8)})
    assert success(predictor, "broke") > 0.9
    observe(predictor, "broke", *[False] * 4)
    assert success(predictor, "broke") < 0.7


def test_what_we_saw_ourselves_decides_between_two_that_disagree() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        observe(predictor, f"t{number}", *[True] * 25)
        predictor.report(f"t{number}", "acme", {"right": seen(60, 1.0), "wrong": seen(60, 0.1)})
    assert predictor.trust.of("right") > 2 * predictor.trust.of("wrong")


def test_trust_is_not_lost_by_chance_nor_over_a_few_executions() -> None:
    random, trust = Random(4), ReporterTrust()
    for number in range(50):
        reports = {}
        for reporter in ("a", "b", "c"):
            successes = sum(random.random() < 0.8 for _ in range(30))
            reports[reporter] = Tally(count=30, successes=successes)
        trust.compare(f"t{number}", "acme", reports, EMPTY)
    assert min(map(trust.of, "abc")) > 0.8
    before = trust.of("d")
    for number in range(5):
        trust.compare(f"t{number}", "acme", {"d": seen(100, 0.0), "a": seen(1, 1.0)}, EMPTY)
    assert trust.of("d") >= before


def test_a_tool_that_broke_does_not_cost_those_their_trust_who_saw_it_work() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        predictor.report(f"t{number}", "acme", {"globex": seen(50, 1.0), "hooli": seen(50, 1.0)})
    before = predictor.trust.of("globex")
    observe(predictor, "t0", *[False] * 20)
    assert predictor.trust.of("globex") >= before


def test_trust_is_earned() -> None:
    trust = ReporterTrust()
    first = trust.of("a")
    for number in range(20):
        trust.compare(f"t{number}", "acme", {"a": seen(50, 0.9), "b": seen(50, 0.9)}, EMPTY)
    assert first < 0.5 < 0.9 < trust.of("a") <= 1


def test_a_provider_that_claims_to_be_faster_than_it_is_is_not_believed() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        for _ in range(20):
            predictor.observe(f"t{number}", success=True, latency_ms=3000.0)
        predictor.report(f"t{number}", "acme", {"acme": seen(100, 1.0, latency_ms=1.0)})
    assert predictor.trust.of("acme") < 0.1
    assert predictor.predict("t0").p50_ms == pytest.approx(3000, rel=0.2)


def test_a_provider_is_not_blamed_for_the_way_to_it() -> None:
    predictor = PerformancePredictor()
    for number in range(5):
        observe(predictor, f"t{number}", *[True] * 20)
        predictor.report(f"t{number}", "acme", {"acme": seen(100, 1.0, latency_ms=1.0)})
    assert predictor.trust.of("acme") > 0.7


def test_those_explore_for_each_other_who_lately_reported_on_a_tool_that_is_not_theirs() -> None:
    clock = Clock()
    predictor = PerformancePredictor(clock)
    assert predictor.explorers == 1
    predictor.report("t", "acme", {"acme": seen(100), "globex": seen(30)})
    predictor.report("u", "initech", {"initech": seen(100), "hooli": seen(30)})
    assert predictor.explorers == 2
    clock.now += 2 * HALF_LIFE
    assert predictor.explorers == 1


def test_no_crowd_ends_the_exploring_and_more_divide_it_whose_word_is_noisy() -> None:
    crowd = {f"caller{number}": seen(30) for number in range(1000)}
    predictor = PerformancePredictor()
    predictor.report("t", "acme", crowd)
    assert predictor.explorers == EXPLORERS
    predictor.report("t", "acme", crowd | {"globex": replace(seen(30), noise=3.0)})
    assert predictor.explorers == NOISY_EXPLORERS
