"""Calls at once are bounded per server: a few wait a moment, and any other is refused at once."""

import asyncio

import pytest

from mcp_federation.errors import Overloaded
from mcp_federation.node.servers.calls.slots import MAX_RETRY_MS, MIN_RETRY_MS, Slots


async def waiting(slots: Slots, count: int, timeout: float = 10) -> list[asyncio.Task[None]]:
    """So many that wait for a slot."""
    tasks = [asyncio.create_task(slots.take(timeout)) for _ in range(count)]
    await asyncio.sleep(0)  # one turn of the loop, in which each begins to wait
    return tasks


async def test_slots_are_given_in_the_order_they_were_asked_for() -> None:
    slots = Slots("box", 1, wait=10)
    await slots.take(10)
    (first,) = await waiting(slots, 1)
    slots.give_back()
    await first
    assert slots.in_use == 1
    slots.give_back()
    assert slots.in_use == 0


async def test_who_finds_slots_and_queue_full_is_refused_at_once() -> None:
    slots = Slots("box", 2, wait=10)
    for _ in range(2):
        await slots.take(10)
    tasks = await waiting(slots, 2)
    with pytest.raises(Overloaded, match="'box'"):
        await slots.take(10)
    for _ in range(2):
        slots.give_back()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("wait", "timeout"), [(0.01, 10.0), (10.0, 0.01)])
async def test_who_waits_too_long_is_refused_and_leaves_the_queue(wait: float, timeout: float) -> None:
    slots = Slots("box", 1, wait=wait)
    await slots.take(10)
    with pytest.raises(Overloaded):
        await slots.take(timeout)
    slots._wait = 10
    (next_one,) = await waiting(slots, 1)
    slots.give_back()
    await next_one


@pytest.mark.parametrize("given", [False, True])
async def test_who_goes_while_it_waits_takes_no_slot(given: bool) -> None:
    slots = Slots("box", 1, wait=10)
    await slots.take(10)
    (gone,) = await waiting(slots, 1)
    if given:
        slots.give_back()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    if not given:
        slots.give_back()
    assert slots.in_use == 0


async def test_the_hint_grows_with_the_calls_and_is_bounded() -> None:
    slots = Slots("box", 1, wait=0)

    async def hint() -> int:
        with pytest.raises(Overloaded) as caught:
            await slots.take(10)
        ms: int = caught.value.details["retry_after_ms"]
        return ms

    await slots.take(10)
    assert await hint() == MIN_RETRY_MS
    slots.give_back(0.5)
    await slots.take(10)
    assert await hint() >= 500
    slots.give_back(10_000)
    await slots.take(10)
    assert await hint() == MAX_RETRY_MS
