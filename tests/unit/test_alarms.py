"""Many deadlines share one timer of the loop."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.bus.alarms import Alarms


@pytest.fixture
def alarms() -> Iterator[Alarms]:
    alarms = Alarms()
    yield alarms
    alarms.clear()


@given(st.lists(st.tuples(st.floats(-0.01, 0.03), st.booleans()), max_size=12))
@settings(max_examples=15, deadline=None)
def test_each_alarm_comes_once_and_not_before_its_time_unless_it_was_dropped(
    wanted: list[tuple[float, bool]],
) -> None:
    async def ring() -> None:
        alarms, came = Alarms(), dict[int, float]()
        done = asyncio.Event()
        now = time.monotonic()

        def note(index: int) -> None:
            assert index not in came
            came[index] = time.monotonic()

        for index, (delay, is_kept) in enumerate(wanted):
            number = alarms.set(now + delay, partial(note, index))
            if not is_kept:
                alarms.drop(number)
        alarms.set(now + 0.04, done.set)
        await done.wait()
        assert set(came) == {index for index, (_, is_kept) in enumerate(wanted) if is_kept}
        assert all(at >= now + wanted[index][0] for index, at in came.items())
        assert len(alarms) == 0

    asyncio.run(ring())


async def test_what_is_called_may_set_another(alarms: Alarms) -> None:
    done = asyncio.Event()

    def again() -> None:
        alarms.set(0.0, done.set)

    alarms.set(0.0, again)
    async with asyncio.timeout(5):
        await done.wait()


async def test_an_earlier_alarm_does_not_wait_for_a_later_one(alarms: Alarms) -> None:
    done = asyncio.Event()
    alarms.set(time.monotonic() + 3600, asyncio.Event().set)
    alarms.set(time.monotonic(), done.set)
    async with asyncio.timeout(5):
        await done.wait()
    assert len(alarms) == 1


async def test_nothing_comes_after_a_clear(alarms: Alarms) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    alarms.set(time.monotonic() + 0.001, first.set)
    alarms.clear()
    alarms.set(time.monotonic() + 0.002, second.set)
    await second.wait()
    assert not first.is_set()
