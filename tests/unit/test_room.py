"""Room for payloads: never more than there is, in the order of coming, and none is lost by who gives up."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.bus.room import Room

SIZE = 10


async def test_who_comes_later_does_not_overtake_who_waits() -> None:
    room = Room(SIZE)
    await room.take(8)
    large, small = asyncio.create_task(room.take(5)), asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    assert room.wanted == 6
    room.give_back(8)
    await asyncio.gather(large, small)
    assert room.wanted == 0


async def test_who_is_cancelled_in_the_moment_of_its_turn_gives_it_back() -> None:
    room = Room(SIZE)
    await room.take(SIZE)
    first = asyncio.create_task(room.take(SIZE))
    await asyncio.sleep(0)
    room.give_back(SIZE)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert room.fits(SIZE)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, SIZE), st.booleans()), max_size=20))
def test_whoever_gives_up_never_more_is_taken_than_there_is_and_all_comes_back(
    takers: list[tuple[int, bool]],
) -> None:
    room = Room(SIZE)
    held = most = 0

    async def use(size: int) -> None:
        nonlocal held, most
        await room.take(size)
        held += size
        most = max(most, held)
        try:
            await asyncio.sleep(0)
        finally:
            held -= size
            room.give_back(size)

    async def run() -> None:
        tasks = [asyncio.create_task(use(size)) for size, _ in takers]
        await asyncio.sleep(0)
        for task, (_, gives_up) in zip(tasks, takers, strict=True):
            if gives_up:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert most <= SIZE
    assert room.fits(SIZE)
    assert room.wanted == 0
