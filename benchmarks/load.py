"""Bounded load: N callers in a closed loop for some seconds or some calls, and what came of it."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

Call = Callable[[], Awaitable[None]]
"""One call of what is measured; it raises where the answer is wrong."""

CALL_TIMEOUT = 30.0
"""Seconds that the last answers may take after the load has ended."""

MAX_ERRORS = 20
"""Failed calls after which a load ends: something that is down is not worth measuring."""


@dataclass(frozen=True)
class Load:
    """`in_flight` calls at a time until `seconds` are over or `calls` were begun."""

    in_flight: int
    seconds: float
    calls: int | None = None


@dataclass
class Sample:
    """What one load gave. Latencies in seconds; `elapsed` ends with the last answer."""

    latencies: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answered calls a second."""
        return len(self.latencies) / self.elapsed if self.elapsed else 0.0

    def percentile(self, share: float) -> float:
        """The latency that `share` (0 to 1) of the calls did not exceed; NaN without any."""
        return percentile(sorted(self.latencies), share)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


async def run_load(call: Call, load: Load) -> Sample:
    """Run one load and wait for its last answer."""
    sample = Sample()
    clock = time.perf_counter
    left = math.inf if load.calls is None else load.calls
    began = clock()
    deadline = began + load.seconds

    async def caller() -> None:
        nonlocal left
        while left > 0 and len(sample.errors) < MAX_ERRORS:
            start = clock()
            if start >= deadline:
                return
            left -= 1
            try:
                await call()
            except Exception as error:  # noqa: BLE001 - whatever is measured may fail in any way
                sample.errors.append(f"{type(error).__name__}: {error}"[:200])
            else:
                sample.latencies.append(clock() - start)

    # A deadline over the whole rather than one a call, which would be measured with it.
    try:
        async with asyncio.timeout(load.seconds + CALL_TIMEOUT), asyncio.TaskGroup() as callers:
            for _ in range(load.in_flight):
                callers.create_task(caller())
    except TimeoutError:
        sample.errors.append(f"calls without an answer {CALL_TIMEOUT:g} s after the end")
    sample.elapsed = clock() - began
    return sample
