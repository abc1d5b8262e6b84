"""What a node tells a caller ahead of the answer: which instance has the call, and how far it is."""

import asyncio
import time
from collections import deque
from typing import Final

from mcp_federation.bus.alarms import Alarms
from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus, Delivery
from mcp_federation.contract.messages import Progress, Running, encode
from mcp_federation.contract.subjects import Header
from mcp_federation.errors import FederationError
from mcp_federation.logs import get_logger

log = get_logger("node")

RUNNING_AFTER: Final = 0.15
"""Seconds until a caller is told who has its call: sooner than it first asks whether we live."""

MAX_WAITING: Final = 256
"""Steps of progress that may wait to be sent; beyond them the oldest are dropped."""


class Caller:
    """The other end of one call that understands interim messages. Leave it before the answer is sent."""

    def __init__(self, bus: Bus, alarms: Alarms, delivery: Delivery, instance: str) -> None:
        accepts = delivery.headers.get(Header.ACCEPT)
        self.takes_interim = accepts is not None and delivery.reply is not None
        self.takes_progress = self.takes_interim and accepts == "progress"
        self._bus = bus
        self._reply = delivery.reply or ""
        self._instance = instance
        self._waiting: deque[tuple[str, bytes]] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._alarms = alarms
        self._alarm = alarms.set(time.monotonic() + RUNNING_AFTER, self._running) if self.takes_interim else 0

    def progress(self, progress: Progress) -> None:
        """Pass a step on, behind those before it."""
        self._tell("progress", encode(progress))

    async def leave(self) -> None:
        """Send what waits; nothing more comes."""
        self._alarms.drop(self._alarm)
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=1)
            await stop_task(self._sending)

    def _running(self) -> None:
        self._tell("running", encode(Running(instance=self._instance)))

    def _tell(self, kind: str, payload: bytes) -> None:
        if self._waiting is None:
            self._waiting = deque(maxlen=MAX_WAITING)
        self._waiting.append((kind, payload))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                kind, payload = self._waiting.popleft()
                await self._bus.publish(self._reply, payload, {Header.INTERIM: kind})
        except FederationError as error:
            log.warn("interim_lost", code=error.code, reason=error.message)
