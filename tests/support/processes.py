"""A mesh of real processes: nodes and MCP servers that a test starts, stops, kills and starts again."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcp_federation.client import FederationClient
from mcp_federation.trust.keys import read_trusted_keys
from tests.support.ledger import VARIABLE, Ledger
from tests.support.nats_server import NatsServer

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 30.0
HEARTBEAT = 0.3


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """One process, which can be started again. Its output goes to a file of its name."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._argv = argv
        self._env = env
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.alive
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, env=dict(self._env), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as by a power cut."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    async def stop(self) -> int:
        """End it as a supervisor does; its exit code."""
        self.signal(signal.SIGTERM)
        return await asyncio.to_thread(self.wait)

    def memory(self, what: str = "VmRSS") -> int:
        """The bytes that it takes now, or with `VmHWM` took at most."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))

    def forget_peak_memory(self) -> None:
        """Count what it takes at most from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def said(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


class Processes:
    """Starts processes of the federation on one nats-server, and leaves none behind."""

    def __init__(self, folder: Path, nats: NatsServer) -> None:
        self.folder = folder
        self.nats = nats
        self.ledger = Ledger(folder / "ledger")
        self.key_file = folder / "state" / "governance.pub"
        self.all: list[Process] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MCP_FEDERATION")},
            "PYTHONPATH": str(ROOT),
            "MCP_FEDERATION_HEARTBEAT": str(HEARTBEAT),
            "MCP_FEDERATION_NATS_URL": nats.url,
            "MCP_FEDERATION_STATE_DIR": str(folder / "state"),
            "MCP_FEDERATION_TRUSTED_KEYS": str(self.key_file),
            VARIABLE: str(self.ledger.path),
        }

    def start(self, name: str, argv: Sequence[str], **env: str) -> Process:
        """Start any process."""
        process = Process(name, argv, {**self.environment, **env}, self.folder)
        self.all.append(process)
        process.start()
        return process

    def service(self, name: str, kind: str, *flags: str, **settings: object) -> Process:
        """Start a process of the federation; `settings` are fields of its settings."""
        env = {f"MCP_FEDERATION_{field.upper()}": str(value) for field, value in settings.items()}
        return self.start(name, [sys.executable, "-m", "mcp_federation.cli", kind, *flags], **env)

    def governance(self) -> Process:
        """Start governance, and wait until it judges."""
        process = self.service("governance", "governance")
        deadline = time.monotonic() + PATIENCE
        while not self.key_file.exists():
            assert process.alive, process.said()
            assert time.monotonic() < deadline, process.said()
            signal.sigtimedwait([], 0.02)
        return process

    def node(
        self,
        name: str,
        replica: str = "",
        *,
        servers: Any = None,
        toolbox: bool | None = None,
        **settings: object,
    ) -> Process:
        """Start a replica of a node: with `mcpServers` of its own, or else with the ledger as a toolbox."""
        label = f"{name}{replica}"
        flags = ["--name", name]
        if servers is not None:
            config = self.folder / f"{label}.json"
            config.write_text(json.dumps({"mcpServers": servers}))
            flags += ["--config", str(config)]
        if toolbox if toolbox is not None else servers is None:
            flags += ["--toolbox", "tests.support.ledger:server"]
        return self.service(label, "node", *flags, **settings)

    def edge(self, home: str, **settings: object) -> str:
        """Start an edge; its URL, which answers when it is ready."""
        port = free_port()
        self.service("edge", "edge", "--node", home, "--port", str(port), **settings)
        return f"http://127.0.0.1:{port}"

    def stdio_ledger(self) -> dict[str, Any]:
        """The ledger as an entry of an `mcpServers` file, in a process of its own."""
        names = ("PYTHONPATH", VARIABLE)
        env = {name: self.environment[name] for name in names}
        return {"command": sys.executable, "args": ["-m", "tests.support.ledger", "stdio"], "env": env}

    def http_ledger(self, name: str, port: int) -> Process:
        """Start the ledger on a port."""
        return self.start(name, [sys.executable, "-m", "tests.support.ledger", "http", str(port)])

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[FederationClient]:
        """A client of the mesh, on a connection of its own."""
        keys = read_trusted_keys([str(self.key_file)])
        async with FederationClient.connect(self.nats.url, keys, **options) as client:
            yield client

    def __enter__(self) -> Self:
        self.nats.start()
        self.environment["MCP_FEDERATION_NATS_URL"] = self.nats.url
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.all:
            if process.alive:
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGTERM)
        for process in self.all:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process._process is not None:
                    process._process.wait(15)
            if process.alive:
                process.kill()
        self.nats.stop()


async def instances(client: FederationClient, node: str, number: int) -> None:
    """Wait until that many replicas of a node are known."""
    known = client.catalog.state.instances
    assert await client.catalog.wait_until(lambda: len(known(node)) == number, PATIENCE), known(node)


async def published(client: FederationClient, *names: str) -> None:
    """Wait until these federated names are in the catalog."""
    wanted = set(names)
    found = await client.catalog.wait_until(
        lambda: wanted <= {tool.federated_name for tool in client.catalog.state.tools()}, PATIENCE
    )
    assert found, client.discover()
