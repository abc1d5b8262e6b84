"""Async work for synchronous callers, inside a running event loop or not."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from mcp_federation.errors import DeadlineExceeded

T = TypeVar("T")

_GRACE = 2.0
"""Seconds beyond the work's own deadline, for its loop to end; a stuck name lookup may outlast them."""


def run_in_thread(work: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:
    """The result of the coroutine, run in a thread with an event loop of its own.

    The work keeps `deadline` (seconds) itself; this waits a little longer and no more.

    Raises:
        DeadlineExceeded: there was no result by then.
    """
    result: Future[T] = Future()

    async def run() -> None:
        try:
            result.set_result(await work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, whatever it is
            result.set_exception(error)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="mcp-federation-sync", daemon=True)
    thread.start()
    try:
        return result.result(deadline + _GRACE)
    except TimeoutError as error:
        raise DeadlineExceeded(f"no result within {deadline:g} s") from error
    finally:
        thread.join(_GRACE)
