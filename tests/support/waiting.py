"""Waiting for what nobody tells of."""

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until a condition on something outside of this process holds, at most `timeout` seconds.

    For what gives no event to wait for; what does is awaited itself.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert loop.time() < deadline, f"not within {timeout} s: {condition}"
        tick = asyncio.Event()
        loop.call_later(0.02, tick.set)
        await tick.wait()
