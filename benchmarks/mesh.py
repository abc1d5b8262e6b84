"""A mesh for the benchmark: nats-server and the federation's own processes, as a user would start them."""

import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.group import Group, StartFailed
from mcp_federation.client import FederationClient
from mcp_federation.mesh.nats_server import prepare_nats_server
from mcp_federation.trust.keys import read_trusted_keys

ROOT = Path(__file__).resolve().parent.parent
NODE = "bench"
TOOLS = {"python": "echo", "http": "http.echo", "stdio": "stdio.echo"}
"""The local names of the echo tool: in the node's process, and on the two MCP servers behind it."""


@dataclass(frozen=True)
class Mesh:
    """Where everything is."""

    nats_url: str
    edge_url: str
    key_file: Path
    client: FederationClient


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bench_environment() -> dict[str, str]:
    """This environment without the mesh's settings, and with this package to import."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MCP_FEDERATION")}
    return {**ours, "PYTHONPATH": str(ROOT)}


def server_command(kind: str, *more: str) -> list[str]:
    """The command of a bare server of `benchmarks.servers`."""
    return [sys.executable, "-m", "benchmarks.servers", kind, *more]


async def start_nats(group: Group) -> str:
    """Start a nats-server with JetStream; its URL."""
    folder = group.folder / "nats"
    folder.mkdir()
    nats = prepare_nats_server(folder, None, bench_environment())
    group.start("nats-server", nats.command.argv, nats.command.env)
    port = int(nats.url.rpartition(":")[2])
    await group.until("nats-server", lambda: listens(port))
    return nats.url


@asynccontextmanager
async def running_mesh(group: Group, nats_url: str, mcp_url: str) -> AsyncIterator[Mesh]:
    """Start governance, metrics, a node with the three echo tools and an edge; a client that sees them."""
    config = group.folder / "servers.json"
    stdio = server_command("mcp-stdio")
    servers = {
        "http": {"url": mcp_url},
        "stdio": {"command": stdio[0], "args": stdio[1:], "env": {"PYTHONPATH": str(ROOT)}},
    }
    config.write_text(json.dumps({"mcpServers": servers}))
    state = group.folder / "state"
    state.mkdir(mode=0o700)
    key_file = state / "governance.pub"
    port = free_port()

    def start(kind: str, *flags: str) -> None:
        argv = [sys.executable, "-m", "mcp_federation.cli", kind, "--nats", nats_url]
        group.start(kind, [*argv, "--state-dir", str(state), *flags], bench_environment())

    start("governance")
    await group.until("governance", key_file.exists)
    trust = ("--trust", str(key_file))
    start("metrics")
    start("node", "--name", NODE, "--config", str(config), "--toolbox", "benchmarks.toolbox:server", *trust)
    start("edge", "--node", NODE, "--port", str(port), *trust)
    await group.until("edge", lambda: listens(port))
    async with FederationClient.connect(nats_url, read_trusted_keys([str(key_file)]), home=NODE) as client:
        state_of = client.catalog.state
        if not await client.catalog.wait_until(
            lambda: all(state_of.get(NODE, name) for name in TOOLS.values()), 60
        ):
            raise StartFailed(f"the node did not publish its tools: {group.last_line('node')}")
        yield Mesh(nats_url, f"http://127.0.0.1:{port}", key_file, client)
