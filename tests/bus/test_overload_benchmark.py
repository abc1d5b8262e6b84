"""The overload benchmark's own arithmetic: an open loop does not wait for answers."""

import asyncio
import random

import pytest

from benchmarks.overload import OVERLOADED, TIMEOUT, Step, capacity, offer


async def test_calls_are_sent_at_their_rate_whether_the_earlier_ones_are_answered_or_not() -> None:
    begun = 0
    gate = asyncio.Event()

    async def ask() -> str:
        nonlocal begun
        begun += 1
        if begun == 100:
            gate.set()
        await gate.wait()
        return ""

    step = Step(multiple=1, rate=1000, seconds=0.3)
    await asyncio.wait_for(offer(ask, step, random.Random(1)), 2 * TIMEOUT + 5)
    assert step.sent == begun == len(step.answered)
    assert step.sent == pytest.approx(300, rel=0.3)
    assert step.goodput == pytest.approx(1000, rel=0.3)


async def test_results_refusals_and_failures_are_told_apart() -> None:
    codes = ["", OVERLOADED, "node_unavailable", "", OVERLOADED, ""]

    async def ask() -> str:
        return codes.pop() if codes else "node_unavailable"

    step = Step(multiple=1, rate=500, seconds=0.1)
    await offer(ask, step, random.Random(1))
    assert (len(step.answered), len(step.refused)) == (3, 2)
    assert step.failed == {"node_unavailable": step.sent - 5}


async def test_what_can_be_carried_is_counted_over_all_callers() -> None:
    answered = 0

    async def ask() -> str:
        nonlocal answered
        await asyncio.sleep(0)
        answered += 1
        return "" if answered % 2 else OVERLOADED

    rate = await capacity(ask, in_flight=4, seconds=0.05)
    assert rate == pytest.approx(answered / 2 / 0.05, rel=0.5)
