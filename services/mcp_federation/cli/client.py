"""Finds the mesh that a client command is meant for, and runs the command against it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus
from mcp_federation.client import FederationClient
from mcp_federation.errors import InvalidRequest
from mcp_federation.logs import configure_logs
from mcp_federation.mesh.state import RunningMesh, StateDir
from mcp_federation.process import Stop, run_process
from mcp_federation.settings import Settings, load_settings
from mcp_federation.trust.keys import read_trusted_keys
from mcp_federation.trust.policy_file import load_policy

BY_A_SIGNAL: Final = 128
"""What a shell adds to the signal that ended a command: 130 for Ctrl-C, 143 for SIGTERM."""

CONNECT_TIMEOUT: Final = 5.0

Work = Callable[[FederationClient], Awaitable[None]]
BusWork = Callable[[Bus, RunningMesh, Settings], Awaitable[None]]


def run_client(work: Work, **overrides: Any) -> int:
    """Run `work` with a client of the mesh; its exit code.

    The mesh is that of `nats_url` (a flag or the environment), else the one that runs on the state
    directory.
    """
    return _run_command(_work, work, **overrides)


def run_on_bus(work: BusWork, **overrides: Any) -> int:
    """Run `work` with a connection to the mesh and nothing more; its exit code."""
    return _run_command(_bus_work, work, **overrides)


def _run_command(
    connected: Callable[[Settings, Any], Coroutine[Any, Any, None]], work: Any, **overrides: Any
) -> int:
    settings = load_settings(**overrides)
    # What goes wrong is the command's to say, in one line.
    configure_logs("error")
    ended_by = 0

    async def main(stop: Stop) -> None:
        nonlocal ended_by
        loop = asyncio.get_running_loop()
        working = loop.create_task(connected(settings, work))
        stopped = loop.create_task(stop.wait())
        try:
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            ended_by = 0 if working.done() else stop.number
            if working.done():
                working.result()
        finally:
            await stop_task(working)
            await stop_task(stopped)

    code = run_process(main)
    return BY_A_SIGNAL + ended_by if ended_by else code


async def _work(settings: Settings, work: Work) -> None:
    mesh = find_mesh(settings)
    keys = read_trusted_keys(mesh.trusted_keys)
    imports = load_policy(settings.import_policy) if settings.import_policy else None
    async with FederationClient.connect(mesh.nats_url, keys, home=mesh.home, imports=imports) as client:
        await work(client)


async def _bus_work(settings: Settings, work: BusWork) -> None:
    mesh = find_mesh(settings)
    bus = await NatsBus.connect(mesh.nats_url, name="mcp-federation-operator", timeout=CONNECT_TIMEOUT)
    async with bus:
        await work(bus, mesh, settings)


def find_mesh(settings: Settings) -> RunningMesh:
    """The mesh that the settings name, else the one that runs on their state directory.

    Raises:
        InvalidRequest: a mesh is named, and no governance key to trust.
        FederationError: no mesh runs there.
    """
    if "nats_url" not in settings.model_fields_set:
        mesh = StateDir(settings.state_dir).read_mesh()
        return msgspec.structs.replace(mesh, trusted_keys=settings.trusted_keys or mesh.trusted_keys)
    if not settings.trusted_keys:
        raise InvalidRequest("name the governance key to trust with --trust: its file, or ed25519:…")
    return RunningMesh(
        nats_url=settings.nats_url, edge_url="", trusted_keys=settings.trusted_keys, home=settings.node
    )
