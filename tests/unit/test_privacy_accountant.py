"""The account of a privacy budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.privacy.accountant import Accountant

BUDGET, WINDOW = 5.0, 100.0
spends = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.01, 6), st.floats(0, 60)), max_size=60)


@given(spends)
def test_no_window_ever_spends_more_than_its_budget_and_nothing_is_refused_that_fits(
    wishes: list[tuple[str, float, float]],
) -> None:
    accountant, now, granted = Accountant(BUDGET, WINDOW), 0.0, list[tuple[str, float, float]]()
    for key, epsilon, pause in wishes:
        now += pause
        before = sum(e for k, e, then in granted if k == key and then > now - WINDOW)
        allowed = accountant.spend(key, epsilon, now)
        assert allowed == (before + epsilon <= BUDGET * (1 + 1e-9))
        if allowed:
            granted.append((key, epsilon, now))
    for _, _, end in granted:
        for key in "ab":
            within = [e for k, e, then in granted if k == key and end - WINDOW < then <= end]
            assert sum(within) <= BUDGET * (1 + 1e-6)


def test_releases_about_one_tool_add_up_and_tools_stand_side_by_side() -> None:
    accountant = Accountant(BUDGET, WINDOW)
    for _ in range(3):
        assert accountant.spend("a", 1.5, 0.0)
    assert accountant.spend("b", 2.0, 0.0)
    assert (accountant.spent("a", 0.0), accountant.releases("a", 0.0)) == (4.5, 3)
    assert accountant.total(0.0) == 4.5
    assert not accountant.spend("a", 1.0, 99.0)
    assert accountant.spend("a", 1.0, 101.0)
    assert accountant.total(300.0) == 0


def test_a_release_that_spends_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="spends"):
        Accountant(BUDGET, WINDOW).spend("a", 0.0, 0.0)
