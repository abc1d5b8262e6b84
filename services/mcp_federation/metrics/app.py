"""The composition root of the metrics process."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from mcp_federation.contract.subjects import METRICS_STREAM
from mcp_federation.metrics.worker import MetricsWorker
from mcp_federation.process import connected
from mcp_federation.settings import Settings


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set.

    Raises:
        BusUnavailable: NATS does not answer, or the streams cannot be made.
    """
    async with connected(settings, "metrics", stop) as bus:
        kept = replace(METRICS_STREAM, max_age=timedelta(days=settings.metrics_days))
        worker = MetricsWorker(bus, metrics_stream=kept)
        await worker.start()
        try:
            await stop.wait()
        finally:
            await worker.stop()
