"""Turns: a key has so many at a time and so many that wait, whatever the others do."""

import asyncio

import pytest

from mcp_federation.errors import Overloaded
from mcp_federation.governance.turns import Turns


async def test_who_has_too_many_waiting_is_refused_and_takes_no_place_of_another() -> None:
    turns, done, running = Turns(at_once=1, most=3), asyncio.Event(), asyncio.Queue[str]()

    async def work(key: str) -> None:
        async with turns.of(key):
            running.put_nowait(key)
            await done.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(work("acme"))
        assert await running.get() == "acme"
        with pytest.raises(Overloaded, match="acme has 3"):
            await work("acme")
        group.create_task(work("globex"))
        assert await running.get() == "globex"
        done.set()
    await work("acme")
