"""The account of a privacy budget."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.errors import InternalError
from mcp_federation.privacy.accountant import KEPT_WINDOWS, Accountant

BUDGET, WINDOW = 5.0, 100.0
spends = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.01, 6), st.floats(0, 60)), max_size=60)


@contextmanager
def an_accountant(file: Path | None = None) -> Iterator[Accountant]:
    with closing(Accountant(BUDGET, WINDOW, file)) as accountant:
        yield accountant


@given(spends)
def test_no_window_ever_spends_more_than_its_budget_and_nothing_is_refused_that_fits(
    wishes: list[tuple[str, float, float]],
) -> None:
    now, granted = 0.0, list[tuple[str, float, float]]()
    with an_accountant() as accountant:
        for key, epsilon, pause in wishes:
            now += pause
            before = sum(e for k, e, then in granted if k == key and then > now - WINDOW)
            with accountant:
                allowed = accountant.spend(key, epsilon, now)
            assert allowed == (before + epsilon <= BUDGET * (1 + 1e-9))
            if allowed:
                granted.append((key, epsilon, now))
    for _, _, end in granted:
        for key in "ab":
            within = [e for k, e, then in granted if k == key and end - WINDOW < then <= end]
            assert sum(within) <= BUDGET * (1 + 1e-6)


def test_releases_about_one_tool_add_up_and_tools_stand_side_by_side() -> None:
    with an_accountant() as accountant, accountant:
        for _ in range(3):
            assert accountant.spend("a", 1.5, 0.0)
        assert accountant.spend("b", 2.0, 0.0)
        assert (accountant.spent("a", 0.0), accountant.releases("a", 0.0)) == (4.5, 3)
        assert not accountant.spend("a", 1.0, 99.0)
        assert accountant.spend("a", 1.0, 101.0)
        assert accountant.spent("a", 300.0) == 0


def test_what_was_spent_stays_spent_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "state" / "account.db"
    with an_accountant(file) as first, first:
        assert first.spend("a", 4.0, 0.0)
    with an_accountant(file) as second, second:
        assert second.spent("a", 50.0) == 4.0
        assert not second.spend("a", 2.0, 50.0)
        assert second.spend("a", 2.0, 101.0)


def test_processes_that_name_one_file_share_one_budget(tmp_path: Path) -> None:
    file = tmp_path / "account.db"
    with an_accountant(file) as one, an_accountant(file) as other:
        for accountant, allowed in ((one, True), (other, False)):
            with accountant:
                assert accountant.spend("a", 3.0, 0.0) is allowed


def test_a_clock_that_is_set_back_forgives_nothing(tmp_path: Path) -> None:
    with an_accountant(tmp_path / "account.db") as accountant, accountant:
        assert accountant.spend("a", 5.0, 1000.0)
        assert not accountant.spend("a", 1.0, 10.0)


def test_a_clock_that_went_ahead_and_is_set_back_finds_all_that_was_spent(tmp_path: Path) -> None:
    file = tmp_path / "account.db"
    with an_accountant(file) as accountant, accountant:
        assert accountant.spend("a", 5.0, 0.0)
        assert accountant.spend("a", 1.0, (KEPT_WINDOWS - 1) * WINDOW)
    with an_accountant(file) as accountant, accountant:
        assert accountant.spent("a", 0.0) == 6.0
        assert not accountant.spend("a", 1.0, 1.0)


def test_a_round_that_ends_in_an_error_spent_nothing() -> None:
    with an_accountant() as accountant:
        with suppress(KeyError), accountant:
            accountant.spend("a", 5.0, 0.0)
            raise KeyError
        with accountant:
            assert accountant.spent("a", 0.0) == 0


def test_what_was_spent_long_ago_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "account.db"
    with an_accountant(file) as accountant:
        for now in (0.0, 1.0, later := KEPT_WINDOWS * WINDOW + 1):
            with accountant:
                assert accountant.spend("a", 1.0, now)
    with closing(sqlite3.connect(file)) as opened:
        assert opened.execute("SELECT at FROM spent").fetchall() == [(later,)]


def test_without_its_account_nothing_can_be_spent(tmp_path: Path) -> None:
    spoiled = tmp_path / "account.db"
    spoiled.write_bytes(b"no account" * 1000)
    (tmp_path / "file").touch()
    for file in (spoiled, tmp_path / "file" / "account.db"):
        with an_accountant(file) as accountant, pytest.raises(InternalError, match="account"), accountant:
            pass


def test_a_release_that_spends_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="spends"):
        Accountant(BUDGET, WINDOW).spend("a", 0.0, 0.0)
