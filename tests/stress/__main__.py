"""A mesh under load while its nodes and servers are killed and started again: `make stress`.

Afterwards every call has exactly one outcome, nothing ran twice that must not, an error that says that
nothing ran is true, and tasks, subscriptions, descriptors and processes are as many as at the start.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import time
from pathlib import Path

import uvloop

from mcp_federation.bus.nats import NatsBus
from mcp_federation.client import FederationClient
from mcp_federation.errors import FederationError
from mcp_federation.logs import configure_logs
from mcp_federation.node.app import Node
from mcp_federation.node.servers.config import HttpSpec, StdioSpec
from mcp_federation.settings import load_settings
from tests.stress.calls import SERVERS, Load, broken_promises, summary
from tests.stress.census import command_of, has_variable, having, returned_to, take_census
from tests.stress.mischief import Mischief
from tests.support.ledger import VARIABLE
from tests.support.nats_server import NatsServer, temporary_folder
from tests.support.processes import HEARTBEAT, Processes, free_port, instances, published

SECONDS = 60.0
SETTLING = 20.0
"""Seconds in which all must be well again, and at rest."""

REST = 10.0
"""Of the run's seconds, those that this takes on a machine that is not busy."""

AT_LEAST = 10.0
"""Seconds of mischief, however long the start took."""

WARM_UP = 2.0
LARGE = {"text": "x" * 3_000_000}
"""Arguments, and a result, for which either end has a subscription from the first time on."""

IN_FLIGHT = 24
NODES = ("acme", "globex")
OWN_LOG = "globex.log"


def say(text: str) -> None:
    """One line for who watches."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


class Stress:
    """One run. The node `acme` is two processes, `globex` is in this one, where its tasks can be counted."""

    def __init__(self, mesh: Processes, monitor: str, seed: int, seconds: float) -> None:
        self.mesh = mesh
        self.monitor = monitor
        self.seed = seed
        self._until = time.monotonic() + seconds
        self.problems: list[str] = []

    async def run(self) -> None:
        """Start, load, break, mend, count."""
        mesh, rng = self.mesh, random.Random(self.seed)
        ports = {node: free_port() for node in NODES}
        servers = [mesh.http_ledger(f"web-{node}", port) for node, port in ports.items()]
        mesh.governance()
        web = {"url": f"http://127.0.0.1:{ports['acme']}/mcp"}
        spec = {"ledger": mesh.stdio_ledger(), "web": web}
        replicas = [mesh.node("acme", replica, servers=spec, log_level="warn") for replica in "ab"]
        async with await NatsBus.connect(mesh.nats.url) as bus:
            node = self._own_node(bus, ports["globex"])
            await node.start()
            try:
                async with mesh.client() as client:
                    await self._load(client, Mischief(rng, replicas, servers, mesh.nats, os.getpid()), rng)
            finally:
                await node.stop()

    def _own_node(self, bus: NatsBus, port: int) -> Node:
        stdio = self.mesh.stdio_ledger()
        settings = load_settings(node="globex", heartbeat=HEARTBEAT)
        return Node(
            bus,
            settings,
            {
                "ledger": StdioSpec(stdio["command"], tuple(stdio["args"]), stdio["env"]),
                "web": HttpSpec(f"http://127.0.0.1:{port}/mcp"),
            },
        )

    async def _load(self, client: FederationClient, mischief: Mischief, rng: random.Random) -> None:
        await self._healthy(client)
        warm = Load(client, rng, IN_FLIGHT, begun=1_000_000)
        await self._for(warm, WARM_UP)
        await asyncio.sleep(1)
        start = await take_census(self.monitor)
        say(f"at the start: {start}")
        load = Load(client, rng, IN_FLIGHT)
        await self._for(load, max(AT_LEAST, self._until - REST - time.monotonic()), mischief)
        say(f"done: {dict(mischief.done)}")
        say(f"calls: {summary(load)}")
        self.problems += broken_promises(load, self.mesh.ledger)
        await self._healthy(client)
        more = await returned_to(start, self.monitor, SETTLING)
        self.problems += [f"more {what} than at the start: {counts}" for what, counts in more.items()]

    async def _for(self, load: Load, seconds: float, mischief: Mischief | None = None) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(load.run())
            stopped = asyncio.Event()
            if mischief is not None:
                both.create_task(mischief.run(stopped))
            await asyncio.sleep(seconds)
            stopped.set()
            load.over.set()

    async def _healthy(self, client: FederationClient) -> None:
        """Wait until every node has its replicas, and each of its servers answers."""
        names = [f"{server}.echo@{node}" for server in SERVERS for node in NODES]
        await published(client, *names)
        await instances(client, "acme", 2)
        deadline = time.monotonic() + SETTLING
        for name in names:
            answers = 0
            while answers < 6:  # by chance from both replicas
                try:
                    await client.execute(name, LARGE, timeout=5)
                    answers += 1
                except FederationError as error:
                    answers = 0
                    if time.monotonic() > deadline:
                        self.problems.append(f"{name} is not well again: {error.code}: {error.message}")
                        break
                    await asyncio.sleep(0.2)


def left_behind(ledger: Path) -> list[str]:
    """The processes that were started for the run and are still there."""
    mine = f"{VARIABLE}={ledger}"
    found = having(lambda pid: pid != os.getpid() and has_variable(pid, mine))
    return [f"process {pid} is left: {command_of(pid)}" for pid in found]


def stacks(folder: Path) -> list[str]:
    """What the federation's own processes logged with a stack: nobody had thought of it."""
    logs = (folder / OWN_LOG, folder / "governance.log", *sorted(folder.glob("acme*.log")))
    return [
        f"{log.name}: {line[:500]}"
        for log in logs
        for line in log.read_text(errors="replace").splitlines()
        if '"stack":' in line or "Traceback" in line
    ]


def run(folder: Path, seed: int, seconds: float) -> list[str]:
    """Run it in a folder; the promises that were broken."""
    monitor = f"127.0.0.1:{free_port()}"
    with Processes(folder, NatsServer(folder, config=f'http: "{monitor}"')) as mesh:
        os.environ[VARIABLE] = str(mesh.ledger.path)
        stress = Stress(mesh, f"http://{monitor}", seed, seconds)
        uvloop.run(stress.run())
    return stress.problems + left_behind(mesh.ledger.path) + stacks(folder)


def main() -> int:
    """Run it; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="in all, about (60)")
    options = parser.parse_args()
    seconds = min(600, options.seconds)
    folder = temporary_folder()
    say(f"seed {options.seed}")
    with (folder / OWN_LOG).open("w") as log:
        configure_logs("warn", stream=log)
        problems = run(folder, options.seed, seconds)
    for problem in problems[:20]:
        say(f"BROKEN {problem}")
    if problems:
        say(f"{len(problems)} promises broken; the logs are in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    say("every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
