"""What leaves as statistics: only about enough executions, bounded, noisy, within the budget."""

import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.contract.messages import Record, Statistics, decode, encode
from mcp_federation.errors import InternalError, InvalidRequest
from mcp_federation.estimation import MAX_LATENCY_MS, estimate, total
from mcp_federation.privacy import release
from mcp_federation.privacy.accountant import Accountant
from mcp_federation.privacy.histogram import PARTS, Histogram
from mcp_federation.privacy.noise import LaplaceNoise
from mcp_federation.privacy.release import GROWTH, NARROW, WIDE, Gatherer, _Expected
from mcp_federation.privacy.sharing import SharingPolicy
from mcp_federation.settings import load_settings

SILENT = SharingPolicy(k=20, epsilon=1.0, budget=20.0, window=100.0)


class Silence:
    """No noise."""

    def draw(self, _scale: float) -> int:
        return 0


def a_record(tool: str = "add", *, success: bool = True, latency_ms: float = 100.0) -> Record:
    return Record(node="acme", tool=tool, success=success, latency_ms=latency_ms)


def gathered(*records: Record, policy: SharingPolicy = SILENT) -> Gatherer:
    gatherer = Gatherer(policy, Silence())
    for record in records:
        gatherer.add(record)
    return gatherer


def of_one_tool(record: Record) -> Record:
    return a_record(success=record.success, latency_ms=record.latency_ms)


def distance(one: Histogram, other: Histogram) -> int:
    """How many parts of executions lie elsewhere, counted where they came from and where they went."""
    return abs(one.failed - other.failed) + abs(one.fast - other.fast) + abs(one.slow - other.slow)


outcomes = st.builds(a_record, st.sampled_from("ab"), success=st.booleans(), latency_ms=st.floats(0, 1e9))


@given(st.lists(st.lists(outcomes, max_size=60), max_size=6), st.integers(2, 30))
def test_no_release_is_about_fewer_than_k_and_no_execution_is_in_two(
    rounds: list[list[Record]], k: int
) -> None:
    gatherer, released, added = Gatherer(SharingPolicy(k=k), Silence()), 0.0, 0
    for now, records in enumerate(rounds):
        for record in records:
            gatherer.add(record)
        added += len(records)
        for statistics in gatherer.release(float(now)):
            assert statistics.tally.count >= k
            assert decode(encode(statistics), Statistics) == statistics
            released += statistics.tally.count
        assert released <= added


@given(st.lists(outcomes.map(of_one_tool), min_size=20, max_size=40), outcomes.map(of_one_tool))
def test_to_change_one_execution_moves_no_more_than_one_whole_in_what_the_noise_hides(
    records: list[Record], other: Record
) -> None:
    hidden = []
    for these in (records, [*records[1:], other]):
        gatherer = gathered(*these)
        [one] = gatherer._tools.values()
        hidden.append(one.executions)
        [statistics] = gatherer.release(0.0)
        assert statistics.tally.count == len(records)
    assert distance(*hidden) <= 2 * PARTS


def test_a_release_is_a_matter_of_the_noisy_histogram_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Histogram, "noisy", lambda *_: Histogram(failed=40, fast=30, slow=90))
    slow, failed = [a_record(latency_ms=9e4)] * 20, [a_record(success=False)] * 20
    assert gathered(*slow).release(0.0) == gathered(*failed).release(0.0)


def test_a_release_spends_what_the_policy_says(tmp_path: Path) -> None:
    file = tmp_path / "account.db"
    gatherer = gathered(*[a_record()] * 20, policy=SharingPolicy(epsilon=0.5, account=file))
    assert len(gatherer.release(0.0)) == 1
    gatherer.close()
    with closing(Accountant(20, 100, file)) as accountant, accountant:
        assert accountant.spent("add@acme", 1.0) == 0.5


def test_a_budget_that_is_spent_stays_spent_after_a_restart(tmp_path: Path) -> None:
    policy = SharingPolicy(k=20, epsilon=1, budget=2, account=tmp_path / "account.db")
    released = []
    for start in range(4):
        gatherer = gathered(*[a_record()] * 30, policy=policy)
        released.append(len(gatherer.release(float(start))))
        gatherer.close()
    assert released == [1, 1, 0, 0]


def test_without_its_account_nothing_leaves_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.touch()
    gatherer = gathered(*[a_record()] * 20, policy=SharingPolicy(account=folder / "account.db"))
    with pytest.raises(InternalError):
        gatherer.release(0.0)
    folder.unlink()
    [statistics] = gatherer.release(1.0)
    gatherer.close()
    assert statistics.tally.count == 20


def test_releases_of_one_window_wait_for_more_and_end_with_the_budget() -> None:
    gatherer, sizes = gathered(policy=SharingPolicy(k=20, epsilon=1, budget=4, window=100.0)), []
    for now in range(200):
        for _ in range(5):
            gatherer.add(a_record())
        sizes += [(now, statistics.tally.count) for statistics in gatherer.release(float(now))]
    within = [count for now, count in sizes if now < 100]
    assert len(within) == 4
    assert all(count >= 20 * GROWTH**position for position, count in enumerate(within))
    assert sizes[4][0] == 100 + sizes[0][0]
    assert sizes[4][1] > 200


def test_what_is_released_without_noise_is_what_happened() -> None:
    random = Random(5)
    gatherer = gathered(policy=SharingPolicy(budget=1000))
    released = []
    for now in range(40):
        for _ in range(200):
            latency = random.lognormvariate(math.log(40), 0.5)
            gatherer.add(a_record(success=random.random() < 0.75, latency_ms=latency))
        released += gatherer.release(float(now))
    found = estimate(total(statistics.tally for statistics in released[5:]))
    assert found.success_probability == pytest.approx(0.75, abs=0.03)
    assert found.p50_ms == pytest.approx(40, rel=0.1)


def test_a_tool_far_from_what_is_expected_is_told_within_a_few_releases() -> None:
    gatherer, told = gathered(policy=SharingPolicy(budget=1000, window=1.0)), 0.0
    for now in range(8):
        for _ in range(20):
            gatherer.add(a_record(latency_ms=2.0))
        [statistics] = gatherer.release(2.0 * now)
        told = math.exp(statistics.tally.log_latency / statistics.tally.successes)
    assert told == pytest.approx(2, rel=0.05)


def test_of_too_many_tools_the_ones_used_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "MAX_TOOLS", 2)
    records = [a_record("a")] * 20 + [a_record("b")] * 20 + [a_record("a"), *[a_record("c")] * 20]
    assert {statistics.tool for statistics in gathered(*records).release(0.0)} == {"a", "c"}


def test_a_tool_that_began_anew_while_its_release_was_paid_for_is_not_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(release, "MAX_TOOLS", 1)
    gatherer = gathered(*[a_record("a")] * 20)
    paid = gatherer.spend(gatherer.ripe(), 0.0)
    for tool in "ba":
        gatherer.add(a_record(tool))
    assert gatherer.released(paid) == []


def test_the_noise_has_the_spread_that_a_release_tells() -> None:
    gatherer = Gatherer(SharingPolicy(budget=1e6, window=1.0), LaplaceNoise())
    told, tally = [], None
    for now in range(400):
        for _ in range(40):
            gatherer.add(a_record(success=False))
        [statistics] = gatherer.release(2.0 * now)
        tally = statistics.tally
        told.append(tally.successes)
    gatherer.close()
    assert tally is not None
    assert fmean(told) == pytest.approx(0, abs=0.4)
    assert pvariance(told) == pytest.approx(tally.noise, rel=0.5)


@pytest.mark.parametrize("wrong", [{"k": 1}, {"epsilon": 0}, {"epsilon": 2, "budget": 1}, {"window": 0}])
def test_a_policy_that_hides_nothing_or_shares_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="budget"):
        SharingPolicy(**wrong)  # type: ignore[arg-type]  # what a caller of the class might do


def test_the_settings_state_the_policy() -> None:
    stated = SharingPolicy.of(load_settings(sharing="records", privacy_k=5, privacy_epsilon=0.5))
    assert (stated.sharing, stated.k, stated.epsilon) == ("records", 5, 0.5)
    assert replace(SharingPolicy.of(load_settings()), account=None) == SharingPolicy()
    kept = SharingPolicy.of(load_settings(node="acme", state_dir=Path("state"))).account
    assert kept == Path("state/privacy-acme.db")
    with pytest.raises(InvalidRequest, match="privacy"):
        SharingPolicy.of(load_settings(privacy_epsilon=2, privacy_budget=1))


def test_the_bounds_of_a_latency_are_what_the_documentation_says() -> None:
    assert math.exp(_Expected().reach) == pytest.approx(9.5, abs=0.1)
    assert math.exp(NARROW) == pytest.approx(3.5, abs=0.1)
    assert math.exp(WIDE) == pytest.approx(12, abs=0.2)
    assert MAX_LATENCY_MS == 300_000
