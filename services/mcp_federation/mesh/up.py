"""`mcp-federation up`: a whole mesh on this machine, from nats-server to edge, in one process group."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
from rich.console import Console

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.nats import NatsBus
from mcp_federation.errors import Conflict
from mcp_federation.listening import listening_port, local_url
from mcp_federation.logs import get_logger
from mcp_federation.mesh.demo import prepare_demo, require_demo_servers, run_to_end
from mcp_federation.mesh.nats_server import find_nats_server, prepare_nats_server
from mcp_federation.mesh.readiness import wait_for_edge, wait_for_file, wait_for_nodes
from mcp_federation.mesh.screen import ReadyMesh, show_ready
from mcp_federation.mesh.state import RunningMesh, StateDir
from mcp_federation.mesh.supervisor import ProcessGroup
from mcp_federation.mesh.topology import (
    Commands,
    Topology,
    base_environment,
    demo_topology,
    local_topology,
)
from mcp_federation.settings import Settings
from mcp_federation.trust.keys import PUBLIC_KEY_FILE

NATS_TIMEOUT: Final = 15.0
KEY_TIMEOUT: Final = 30.0

_SEED = "import pathlib, sys; from mcp_federation.toolbox import seed; seed(pathlib.Path(sys.argv[1]))"

T = TypeVar("T")

log = get_logger("up")


async def up(settings: Settings, stop: asyncio.Event, *, demo: bool, console: Console) -> None:
    """Run a mesh until `stop` is set, and leave nothing running.

    Raises:
        Conflict: the port is taken, or another mesh runs on the state directory.
        FederationError: something that is needed is missing, or a process does not start.
    """
    find_nats_server()
    if demo:
        require_demo_servers()
    state = StateDir(settings.state_dir)
    try:
        port = await asyncio.to_thread(listening_port, settings.host, settings.port)
    except Conflict:
        if state.root.exists():
            async with state.locked():  # else it is the mesh of this very directory that has the port
                pass
        raise
    async with state.locked():
        _stop_with_terminal(stop)
        try:
            await Mesh(settings, state, port).run(stop, demo=demo, console=console)
        finally:
            state.forget_mesh()


def _stop_with_terminal(stop: asyncio.Event) -> None:
    """Drain when the terminal is closed, unless we were started to outlive it."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)


class Mesh:
    """One run of a mesh on a state directory that is ours."""

    def __init__(self, settings: Settings, state: StateDir, port: int) -> None:
        self._settings = settings
        self._state = state
        self._port = port
        self._environment = base_environment()
        self._group = ProcessGroup(state.logs, self._note_processes)
        self._running: RunningMesh | None = None

    @property
    def edge_url(self) -> str:
        """Where the edge answers on this machine."""
        return local_url(self._settings.host, self._port)

    async def run(self, stop: asyncio.Event, *, demo: bool, console: Console) -> None:
        """Start it, show it, run it until `stop` is set, and stop it."""
        async with self._group:
            with console.status("starting the mesh …"):
                ready = await self._unless_stopped(stop, self._start(demo))
            if ready is None:
                return
            show_ready(console, ready)
            await stop.wait()
            with suppress(OSError):  # the terminal may be what went away
                console.print("\nstopping …")

    async def _start(self, demo: bool) -> ReadyMesh:
        began = asyncio.get_running_loop().time()
        state, token = self._state, self._settings.token
        nats = prepare_nats_server(state.nats, token.get_secret_value() if token else None, self._environment)
        commands = Commands(self._settings, state, nats.url, self._environment)
        self._group.start(nats.command)
        public_key = state.governance / PUBLIC_KEY_FILE
        public_key.unlink(missing_ok=True)  # of the last run: the key may be another one by now
        self._group.start(commands.governance(), commands.metrics())
        topology = await self._prepare(demo)
        key = await wait_for_file(public_key, KEY_TIMEOUT)
        self._group.start(*(commands.node(node, key) for node in topology.nodes))
        self._group.start(commands.edge(topology.home, self._port, key))
        async with await NatsBus.connect(nats.url, name="up", timeout=NATS_TIMEOUT) as bus:
            servers = await wait_for_nodes(bus, key, [node.name for node in topology.nodes])
        await wait_for_edge(self.edge_url)
        self._group.settle()
        self._running = RunningMesh(
            nats_url=nats.url, edge_url=self.edge_url, trusted_keys=(key,), home=topology.home
        )
        self._note_processes()
        return ReadyMesh(
            edge_url=self.edge_url,
            nats_address=nats.address,
            state_dir=state.root,
            closed=token is not None,
            pids=self._group.pids,
            servers=tuple(servers),
            example=topology.example,
            seconds=asyncio.get_running_loop().time() - began,
        )

    async def _prepare(self, demo: bool) -> Topology:
        """What runs, and the files that it needs."""
        files = self._state.files
        if not files.exists():
            # In a process of its own, as the toolbox brings the whole MCP SDK with it.
            await run_to_end(sys.executable, "-P", "-c", _SEED, str(files), env=self._environment)
        if demo:
            return demo_topology(self._settings, *await prepare_demo(self._state))
        return local_topology(self._settings)

    async def _unless_stopped(self, stop: asyncio.Event, start: Coroutine[Any, Any, T]) -> T | None:
        """The result of `start`; None where `stop` is set before. A child that fails ends it with why."""
        loop = asyncio.get_running_loop()
        starting = loop.create_task(start)
        stopped = loop.create_task(stop.wait())
        failing = loop.create_task(self._group.failure())
        try:
            await asyncio.wait((starting, stopped, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                raise failing.result()
            return starting.result() if starting.done() else None
        finally:
            for task in (starting, stopped, failing):
                await stop_task(task)

    def _note_processes(self) -> None:
        """Keep the process ids in the mesh file true."""
        if self._running is None:
            return
        try:
            self._state.write_mesh(msgspec.structs.replace(self._running, processes=self._group.pids))
        except OSError as error:  # a full disk must not end the supervision
            log.error("mesh_file_stale", reason=error.strerror)
