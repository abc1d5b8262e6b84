"""The node's heartbeat: that it is there, what it publishes, and how its servers do."""

import asyncio
from collections.abc import Callable

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Presence, encode
from mcp_federation.contract.subjects import PRESENCE
from mcp_federation.errors import FederationError, PayloadTooLarge
from mcp_federation.logs import get_logger

log = get_logger("node")


class Heartbeat:
    """Publishes a presence every `interval` seconds, and at once when `nudge` is called."""

    def __init__(self, bus: Bus, node: str, interval: float, current: Callable[[], Presence]) -> None:
        self._bus = bus
        self._subject = PRESENCE.of(node)
        self._interval = interval
        self._current = current
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def nudge(self) -> None:
        """Something worth telling changed."""
        self._wake.set()

    async def stop(self) -> None:
        """Say goodbye."""
        await stop_task(self._task)
        leaving = self._current()
        await self._publish(
            Presence(
                node=leaving.node,
                instance=leaving.instance,
                status="leaving",
                interval=leaving.interval,
                catalog_hash=leaving.catalog_hash,
            )
        )

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._publish(self._current())
            except Exception:
                # Whatever one presence breaks on: without the next one the node counts as gone.
                log.exception("presence_failed")
            try:
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _publish(self, presence: Presence) -> None:
        try:
            try:
                await self._bus.publish(self._subject, encode(presence))
            except PayloadTooLarge:
                short = Presence(
                    node=presence.node,
                    instance=presence.instance,
                    interval=presence.interval,
                    catalog_hash=presence.catalog_hash,
                    tools=presence.tools,
                    version=presence.version,
                )
                await self._bus.publish(self._subject, encode(short))
        except FederationError as error:
            log.warn("presence_not_sent", reason=error.message)
