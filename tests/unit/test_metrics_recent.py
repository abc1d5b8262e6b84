"""What is kept of each reporter's latest executions of one tool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.contract.messages import Tally
from mcp_federation.estimation import MAX_COST, MEMORY
from mcp_federation.metrics.recent import MAX_REPORTERS, RecentReports

GOOD = Tally(count=1, successes=1)
BAD = Tally(count=1, successes=0)


def rate(recent: RecentReports, reporter: str) -> float:
    tally = recent.by_reporter[reporter]
    return tally.successes / tally.count


def test_a_tool_that_changed_is_followed() -> None:
    recent = RecentReports("acme")
    recent.add("globex", [GOOD] * 1000)
    assert recent.by_reporter["globex"].count == pytest.approx(MEMORY, rel=0.01)
    recent.add("globex", [BAD] * 20)
    assert rate(recent, "globex") == pytest.approx(0.82, abs=0.01)
    recent.add("globex", [BAD] * 300)
    assert rate(recent, "globex") < 0.05


def test_the_order_within_a_batch_is_respected() -> None:
    one, other = RecentReports("acme"), RecentReports("acme")
    one.add("globex", [GOOD] * 50 + [BAD] * 50)
    for tally in [GOOD] * 50 + [BAD] * 50:
        other.add("globex", [tally])
    assert rate(one, "globex") == pytest.approx(rate(other, "globex"))
    assert rate(one, "globex") < 0.5


def test_what_one_caller_reports_makes_the_others_fade_to_a_fair_share_but_not_below() -> None:
    recent = RecentReports("acme")
    recent.add("globex", [GOOD] * 1000)
    recent.add("initech", [BAD] * 20)
    assert recent.by_reporter["globex"].count == pytest.approx(82, abs=1)
    recent.add("initech", [BAD] * 100_000)
    assert recent.by_reporter["globex"].count == pytest.approx(MEMORY / 2)
    assert rate(recent, "globex") == pytest.approx(1)


def test_a_provider_does_not_make_what_callers_observed_fade() -> None:
    recent = RecentReports("acme")
    recent.add("globex", [BAD] * 50)
    before = recent.by_reporter["globex"]
    recent.add("acme", [GOOD] * 10_000)
    assert recent.by_reporter["globex"] == before


def test_nobody_claims_a_cost_beyond_what_so_many_executions_can_have() -> None:
    recent = RecentReports("acme", {"globex": Tally(count=2, cost=1e15), "hooli": Tally(count=2, cost=-1e15)})
    assert [tally.cost for tally in recent.by_reporter.values()] == [2 * MAX_COST, 0.0]


def test_only_so_many_reporters_are_kept() -> None:
    recent = RecentReports("acme")
    for number in range(2 * MAX_REPORTERS):
        recent.add(f"n{number}", [GOOD] * (number + 1))
    assert len(recent.by_reporter) == MAX_REPORTERS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acme", "globex", "initech"]),
            st.builds(Tally, count=st.floats(1, 1e9), successes=st.floats(-1e15, 1e15)),
        ),
        max_size=20,
    )
)
def test_nobody_brings_the_sums_out_of_bounds(reports: list[tuple[str, Tally]]) -> None:
    recent = RecentReports("acme")
    for reporter, tally in reports:
        recent.add(reporter, [tally])
    for tally in recent.by_reporter.values():
        assert 0 <= tally.count <= MEMORY * 1.001
        assert abs(tally.successes) <= 1e6
