"""The memory of outcomes: an id runs once, for one call, and what is remembered is bounded."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.errors import (
    Cancelled,
    DeadlineExceeded,
    FederationError,
    InternalError,
    InvalidRequest,
    OutcomeForgotten,
    Overloaded,
    ServerUnavailable,
    ToolFailed,
)
from mcp_federation.node.execution.outcomes import Outcomes, fingerprint

CALL = fingerprint("mcpfed.v1.execute.acme.echo", b"{}")


class Tool:
    """Counts how often it runs; answers with the count, or as it is told to."""

    def __init__(self, outcome: bytes | BaseException | None = None) -> None:
        self.outcome = outcome
        self.runs = 0
        self.entered = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self) -> bytes:
        self.runs += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome if self.outcome is not None else b"%d" % self.runs

    async def slowly(self) -> bytes:
        self.entered.set()
        await self.released.wait()
        return await self()


async def once(outcomes: Outcomes, tool: Any, request_id: str = "id", call: int = CALL) -> bytes:
    return await outcomes.once(request_id, call, tool, 10)


async def test_a_repetition_gets_the_first_reply_and_another_id_runs() -> None:
    outcomes, tool = Outcomes(), Tool()
    assert [await once(outcomes, tool) for _ in range(3)] == [b"1"] * 3
    assert await once(outcomes, tool, "other") == b"2"


async def test_repetitions_of_what_is_running_wait_for_it() -> None:
    outcomes, tool = Outcomes(), Tool()
    calls = [asyncio.create_task(once(outcomes, tool.slowly)) for _ in range(5)]
    await tool.entered.wait()
    tool.released.set()
    assert await asyncio.gather(*calls) == [b"1"] * 5
    assert await once(outcomes, tool) == b"1"


async def test_a_repetition_waits_no_longer_than_its_own_timeout() -> None:
    outcomes, tool = Outcomes(), Tool()
    first = asyncio.create_task(once(outcomes, tool.slowly))
    await tool.entered.wait()
    with pytest.raises(DeadlineExceeded):
        await outcomes.once("id", CALL, tool, 0.01)
    tool.released.set()
    assert await first == b"1"


async def test_the_end_of_a_waiting_repetition_leaves_the_first_running() -> None:
    outcomes, tool = Outcomes(), Tool()
    first = asyncio.create_task(once(outcomes, tool.slowly))
    await tool.entered.wait()
    second = asyncio.create_task(once(outcomes, tool.slowly))
    asyncio.get_running_loop().call_soon(second.cancel)
    with pytest.raises(asyncio.CancelledError):
        await second
    tool.released.set()
    assert await first == b"1"


@pytest.mark.parametrize("error", [ToolFailed("full", {"disk": 1}), ServerUnavailable("gone")])
async def test_an_error_of_what_may_have_run_is_the_outcome(error: FederationError) -> None:
    outcomes, tool = Outcomes(), Tool(error)
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            await once(outcomes, tool)
        assert (caught.value.message, caught.value.details) == (error.message, error.details)
    assert tool.runs == 1


async def test_what_surely_did_not_run_may_be_tried_again() -> None:
    outcomes = Outcomes()
    with pytest.raises(Overloaded):
        await once(outcomes, Tool(Overloaded("full")))
    assert await once(outcomes, Tool()) == b"1"


async def test_those_who_wait_for_what_did_not_run_are_told_so_too() -> None:
    outcomes, tool = Outcomes(), Tool(Overloaded("full"))
    calls = [asyncio.create_task(once(outcomes, tool.slowly)) for _ in range(2)]
    await tool.entered.wait()
    tool.released.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [Overloaded, Overloaded]
    assert tool.runs == 1


async def test_a_fault_of_ours_is_remembered_without_its_inside() -> None:
    outcomes, tool = Outcomes(), Tool(ZeroDivisionError("/root/secret"))
    with pytest.raises(ZeroDivisionError):
        await once(outcomes, tool)
    with pytest.raises(InternalError) as caught:
        await once(outcomes, tool)
    assert "secret" not in caught.value.message
    assert tool.runs == 1


async def test_a_cancellation_ends_every_delivery_and_is_remembered() -> None:
    outcomes, tool = Outcomes(), Tool()
    first = asyncio.create_task(once(outcomes, tool.slowly))
    await tool.entered.wait()
    second = asyncio.create_task(once(outcomes, tool.slowly))
    asyncio.get_running_loop().call_soon(first.cancel)
    with pytest.raises(Cancelled):
        await second
    with pytest.raises(Cancelled):
        await once(outcomes, tool)
    assert first.cancelled()
    assert tool.runs == 0


async def test_an_id_belongs_to_one_call() -> None:
    outcomes, tool = Outcomes(), Tool()
    running = asyncio.create_task(once(outcomes, tool.slowly))
    await tool.entered.wait()
    with pytest.raises(InvalidRequest):
        await once(outcomes, tool, call=CALL + 1)
    tool.released.set()
    await running
    with pytest.raises(InvalidRequest):
        await once(outcomes, tool, call=CALL + 1)
    assert tool.runs == 1


@given(
    st.tuples(st.text(max_size=9), st.binary(max_size=9)),
    st.tuples(st.text(max_size=9), st.binary(max_size=9)),
)
def test_a_fingerprint_is_one_of_subject_and_payload(one: tuple[str, bytes], two: tuple[str, bytes]) -> None:
    assert (fingerprint(*one) == fingerprint(*two)) == (one == two)


@given(st.text(max_size=80))
async def test_an_id_is_up_to_64_printable_ascii_characters(text: str) -> None:
    fits = 1 <= len(text) <= 64 and text.isascii() and text.isprintable()
    try:
        assert await once(Outcomes(), Tool(), text) == b"1"
    except InvalidRequest:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize("text", ["a" * 64, "a b", "~!"])
async def test_such_an_id_is_one(text: str) -> None:
    assert await once(Outcomes(), Tool(), text) == b"1"


@pytest.mark.parametrize("text", ["", "a" * 65, "a\n", "é"])
async def test_such_an_id_is_none(text: str) -> None:
    with pytest.raises(InvalidRequest):
        await once(Outcomes(), Tool(), text)


async def test_a_reply_too_large_to_keep_is_remembered_as_done() -> None:
    outcomes, tool = Outcomes(max_reply=3), Tool(b"four")
    assert await once(outcomes, tool) == b"four"
    with pytest.raises(OutcomeForgotten, match="no longer kept"):
        await once(outcomes, tool)
    assert tool.runs == 1
    assert outcomes.kept_bytes == 0


async def test_the_oldest_reply_makes_room_and_its_id_still_never_runs_again() -> None:
    outcomes, tool = Outcomes(max_bytes=8), Tool(b"four")
    for request_id in "abc":
        await once(outcomes, tool, request_id)
    with pytest.raises(OutcomeForgotten):
        await once(outcomes, tool, "a")
    assert await once(outcomes, tool, "b") == b"four"
    assert (tool.runs, outcomes.kept_bytes) == (3, 8)


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.integers(0, 4),
        st.one_of(st.binary(max_size=6), st.just(ToolFailed("no")), st.just(Overloaded("full"))),
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 6))
async def test_an_id_within_the_window_never_runs_twice_and_the_bounds_hold(
    steps: list[tuple[str, int, bytes | FederationError]], max_entries: int
) -> None:
    now = 0
    outcomes = Outcomes(window=10, max_entries=max_entries, max_bytes=60, max_reply=55, clock=lambda: now)
    finished: dict[str, float] = {}  # the ids that ran, in the order of their ends
    for request_id, pause, outcome in steps:
        now += pause
        tool = Tool(outcome)
        with suppress(FederationError):
            await once(outcomes, tool, request_id)
        latest = list(finished)[-max_entries:]
        known = request_id in latest and finished[request_id] > now - 10
        assert tool.runs == (0 if known else 1)
        if tool.runs and not isinstance(outcome, Overloaded):
            finished.pop(request_id, None)
            finished[request_id] = now
        assert len(outcomes) <= max_entries
        assert 0 <= outcomes.kept_bytes <= 60
    now += 10
    await once(outcomes, Tool(b"x"), "later")
    assert (len(outcomes), outcomes.kept_bytes) == (1, 1)
