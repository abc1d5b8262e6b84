"""More governance processes while many registrations wait: a bulk is judged on every core.

Checks are work for a processor, and one Python process uses one. Workers share the registrations through
the bus anyway, so a helper is a whole worker of its own, started when the queue is long and stopped when
there is nothing to do.
"""

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Final

from mcp_federation.bus.handling import stop_task
from mcp_federation.logs import configure_logs, get_logger
from mcp_federation.process import run_process
from mcp_federation.settings import Settings

log = get_logger("governance")

BUSY: Final = 10
"""Registrations that wait or are judged at once, from which on more processes are worth their start."""

LOOK_EVERY: Final = 1.0
BUSY_LOOKS: Final = 2
IDLE_LOOKS: Final = 60
STOP_TIMEOUT: Final = 15.0

Run = Callable[[Settings, asyncio.Event], Awaitable[None]]


class Helpers:
    """Up to `most` further processes; `waiting` tells how many registrations this one has at hand."""

    def __init__(
        self,
        settings: Settings,
        target: Callable[[Settings], None],
        most: int,
        waiting: Callable[[], int],
        *,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._settings = settings.model_copy(update={"governance_workers": 1, "public_key": None})
        self._target = target
        self._most = most
        self._waiting = waiting
        self._look_every = look_every
        # Not a fork: this process has an event loop and threads.
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """How many there are now."""
        return sum(process.is_alive() for process in self._processes)

    def start(self) -> None:
        """Look at the queue from now on."""
        if self._most:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop them all, when they have answered what they took."""
        await stop_task(self._task)
        await self._dismiss()

    async def _run(self) -> None:
        busy = idle = 0
        while True:
            await asyncio.sleep(self._look_every)
            waiting = self._waiting()
            busy = busy + 1 if waiting >= BUSY else 0
            idle = idle + 1 if waiting == 0 else 0
            if busy >= BUSY_LOOKS:
                self._summon()
            elif idle >= IDLE_LOOKS and self._processes:
                await self._dismiss()

    def _summon(self) -> None:
        self._processes = [process for process in self._processes if process.is_alive()]
        missing = self._most - len(self._processes)
        for _ in range(missing):
            process = self._context.Process(target=self._target, args=(self._settings,), daemon=True)
            process.start()
            self._processes.append(process)
        if missing:
            log.info("helpers_started", message="many registrations wait", helpers=missing)

    async def _dismiss(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            await asyncio.to_thread(process.join, STOP_TIMEOUT)
            if process.is_alive():
                process.kill()
        if self._processes:
            log.info("helpers_stopped", helpers=len(self._processes))
        self._processes.clear()


def help_out(run: Run, settings: Settings) -> None:
    """The body of a helper process: `run` until it is told to stop, or its parent is gone."""
    configure_logs(settings.log_level)

    async def under_parent(stop: asyncio.Event) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            asyncio.get_running_loop().add_reader(parent.sentinel, stop.set)
        await run(settings, stop)

    with suppress(KeyboardInterrupt):
        run_process(under_parent)
