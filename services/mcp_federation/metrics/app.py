"""The metrics process: one worker, until it is told to stop."""

import asyncio

from mcp_federation.bus.protocol import Bus
from mcp_federation.metrics.worker import MetricsWorker


async def run(bus: Bus, stop: asyncio.Event) -> None:
    """Work until `stop` is set.

    Raises:
        BusUnavailable: the streams cannot be made.
    """
    worker = MetricsWorker(bus)
    await worker.start()
    try:
        await stop.wait()
    finally:
        await worker.stop()
