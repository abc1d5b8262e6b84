"""The composition root of the metrics process."""

import asyncio

from mcp_federation.metrics.worker import MetricsWorker
from mcp_federation.process import connected
from mcp_federation.settings import Settings


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set.

    Raises:
        BusUnavailable: NATS does not answer, or the streams cannot be made.
    """
    async with connected(settings, "metrics", stop) as bus:
        worker = MetricsWorker(bus)
        await worker.start()
        try:
            await stop.wait()
        finally:
            await worker.stop()
