"""Who breaks what, by chance: replicas and servers are killed, stopped, held up, and started again."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tests.stress.census import command_of, descendants
from tests.support.nats_server import NatsServer
from tests.support.processes import Process

PAUSES = (0.3, 1.5)
"""Seconds between one mischief and the next."""

AWAY = (0.0, 1.0)
"""Seconds that something killed stays away."""

HELD_UP = (0.1, 1.0)
STDIO = "tests.support.ledger stdio"


class Mischief:
    """Breaks one thing after another until it is stopped; then everything is up again."""

    def __init__(
        self,
        rng: random.Random,
        replicas: Sequence[Process],
        servers: Sequence[Process],
        nats: NatsServer,
        own: int,
    ) -> None:
        self._rng = rng
        self._replicas = replicas
        self._servers = servers
        self._nats = nats
        self._own = own
        self.done: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "replica killed": self._kill_replica,
            "replica stopped": self._stop_replica,
            "replica held up": self._hold_up_replica,
            "stdio server killed": self._kill_stdio,
            "http server killed": self._kill_http,
            "http server restarted": self._restart_http,
            "nats-server killed": self._kill_nats,
        }

    async def run(self, over: asyncio.Event) -> None:
        """Go on until it is over."""
        while not over.is_set():
            kind = self._rng.choice(list(self._kinds))
            await self._kinds[kind]()
            self.done[kind] += 1
            await self._pause(PAUSES)
        for process in (*self._replicas, *self._servers):
            if not process.alive:
                process.start()

    async def _pause(self, between: tuple[float, float]) -> None:
        await asyncio.sleep(self._rng.uniform(*between))

    async def _kill_replica(self) -> None:
        await self._kill(self._rng.choice(self._replicas))

    async def _kill_http(self) -> None:
        await self._kill(self._rng.choice(self._servers))

    async def _kill(self, process: Process) -> None:
        process.kill()
        await self._pause(AWAY)
        process.start()

    async def _kill_nats(self) -> None:
        self._nats.kill()
        await self._pause(AWAY)
        await asyncio.to_thread(self._nats.start)

    async def _stop_replica(self) -> None:
        await self._stop(self._rng.choice(self._replicas))

    async def _restart_http(self) -> None:
        await self._stop(self._rng.choice(self._servers))

    async def _stop(self, process: Process) -> None:
        await process.stop()
        process.start()

    async def _hold_up_replica(self) -> None:
        replica = self._rng.choice(self._replicas)
        replica.signal(signal.SIGSTOP)
        await self._pause(HELD_UP)
        replica.signal(signal.SIGCONT)

    async def _kill_stdio(self) -> None:
        nodes = [self._own, *(replica.pid for replica in self._replicas if replica.alive)]
        of_node = self._rng.choice(nodes)
        running = [pid for pid in descendants(of_node) if STDIO in command_of(pid)]
        if of_node == self._own:
            others = {pid for replica in self._replicas for pid in descendants(replica.pid)}
            running = [pid for pid in running if pid not in others]
        if running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._rng.choice(running), signal.SIGKILL)
