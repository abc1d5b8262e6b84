"""How a process of the federation begins and ends: one event loop, signals that drain, one line on error."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvloop

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.nats import NatsBus
from mcp_federation.errors import BusUnavailable, FederationError
from mcp_federation.logs import get_logger
from mcp_federation.settings import Settings

log = get_logger("process")

LIVENESS_INTERVAL = 3.0


class Stop(asyncio.Event):
    """Set by a signal; `number` is which, 0 as long as none came."""

    number = 0

    def by(self, number: int) -> None:
        """That signal came."""
        self.number = number
        self.set()


Main = Callable[[Stop], Awaitable[None]]

BUS_PATIENCE = 30.0
"""Seconds that a process waits at its start for a NATS server, which may be starting beside it."""

BUS_RETRY_PAUSE = 0.5

SETTLED = 5.0
"""Seconds after which what a process has built up stays: modules, schemas, the catalog."""


def run_process(main: Main) -> int:
    """Run `main` until it ends or SIGTERM or SIGINT sets the event that it is given; the exit code.

    A `FederationError` ends it with one line on stderr and code 1.
    """

    async def under_signals() -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.by, number)
        # A full collection goes through every module, and holds up all calls for 0.1 s and more.
        gc.freeze()
        loop.call_later(SETTLED, gc.freeze)
        await main(stop)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(under_signals())
    except FederationError as error:
        return _failed(error.message)
    except OSError as error:  # such as a state directory that may not be written
        return _failed(f"{error.strerror or error}: {error.filename or ''}")
    return 0


def _failed(message: str) -> int:
    print(f"mcp-federation: {message}", file=sys.stderr)  # noqa: T201 - for the person who started it
    return 1


@asynccontextmanager
async def connected(settings: Settings, name: str, stop: asyncio.Event) -> AsyncIterator[NatsBus]:
    """A bus of this process, once a server answers.

    Raises:
        BusUnavailable: none did within `BUS_PATIENCE` seconds, or before `stop` was set.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BUS_PATIENCE
    told = ""
    while True:
        try:
            # A process without a bus is of no use: it ends, and whoever runs it starts it again.
            bus = await NatsBus.connect(
                settings.nats_url, name=name, on_lost=lambda: signal.raise_signal(signal.SIGTERM)
            )
            break
        except BusUnavailable as error:
            if error.message != told:
                log.warn("bus_awaited", reason=error.message)
                told = error.message
            # A refusal comes at once, unlike a server that is not there.
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), BUS_RETRY_PAUSE)
            if stop.is_set() or loop.time() >= deadline:
                raise
    alive = (
        asyncio.create_task(_show_liveness(bus, settings.liveness_file)) if settings.liveness_file else None
    )
    try:
        yield bus
    finally:
        await stop_task(alive)
        await bus.close()


async def _show_liveness(bus: NatsBus, file: Path) -> None:
    """Touch a file while the bus is there: the cheapest health check that a container can have."""
    while True:
        if bus.connected:
            await asyncio.to_thread(file.touch)
        await asyncio.sleep(LIVENESS_INTERVAL)
