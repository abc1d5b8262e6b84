"""What a node does under more load than it can carry: `python -m benchmarks.overload [--json FILE]`.

Calls come at random times at a given rate, whether the earlier ones are answered or not: an open loop, as
callers who do not know of each other make it. Each is one request on the bus, without any retry; with
`--client` it is a call of one Python client, which tries again what was refused. The tool takes its time:
what the node can carry is set by how many calls it runs at once, and not by this machine.
"""

import argparse
import asyncio
import gc
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.group import CALLER, Group, StartFailed, used_between
from benchmarks.load import percentile
from benchmarks.mesh import ROOT, bench_environment, start_nats
from benchmarks.report import milliseconds, number
from mcp_federation.bus.nats import NatsBus
from mcp_federation.client import FederationClient
from mcp_federation.client.retries import new_request_id
from mcp_federation.contract.mcp import CallParams
from mcp_federation.contract.messages import ErrorReply, decode, encode
from mcp_federation.contract.subjects import EXECUTE, Header
from mcp_federation.errors import FederationError
from mcp_federation.logs import configure_logs
from mcp_federation.trust.keys import read_trusted_keys

NODE = "slow"
TOOLS = {"python": "pause", "stdio": "stdio.pause"}
IN_FLIGHT = 16
PAUSE = 0.05
TIMEOUT = 2.0
MULTIPLES = (0.5, 0.9, 1.0, 2.0, 5.0, 10.0)
MAX_OPEN = 50_000
OVERLOADED = "overloaded"

Ask = Callable[[], Awaitable[str]]


@dataclass
class Step:
    """What one rate gave. Latencies in seconds; `lag` is how late the load itself sent a call at most.

    `cpu` is the share of a core that each process used.
    """

    multiple: float
    rate: float
    seconds: float
    sent: int = 0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    lag: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def goodput(self) -> float:
        """Calls a second that were answered with a result."""
        return len(self.answered) / self.seconds

    def add(self, outcome: str, seconds: float) -> None:
        """Take in one call: `""` for a result, else the error's code."""
        if not outcome:
            self.answered.append(seconds)
        elif outcome == OVERLOADED:
            self.refused.append(seconds)
        else:
            self.failed[outcome] = self.failed.get(outcome, 0) + 1


async def offer(ask: Ask, step: Step, rng: random.Random) -> None:
    """Send calls at the step's rate for its seconds, and wait for every answer."""
    clock = time.perf_counter
    open_: set[asyncio.Task[None]] = set()

    async def one() -> None:
        sent = clock()
        step.add(await ask(), clock() - sent)

    began = clock()
    due = rng.expovariate(step.rate)
    while due < step.seconds:
        late = clock() - began - due
        if late < 0:
            await asyncio.sleep(min(-late, 0.001))
            continue
        step.lag = max(step.lag, late)
        if len(open_) >= MAX_OPEN:
            step.failed["not sent"] = step.failed.get("not sent", 0) + 1
        else:
            task = asyncio.create_task(one())
            open_.add(task)
            task.add_done_callback(open_.discard)
            step.sent += 1
        due += rng.expovariate(step.rate)
        if step.sent % 32 == 0:
            await asyncio.sleep(0)  # answers are read, whatever is due
    if open_:
        await asyncio.wait(open_, timeout=2 * TIMEOUT)


async def capacity(ask: Ask, in_flight: int, seconds: float) -> float:
    """Calls a second when the next is sent as one is answered: what the node can carry."""
    done = 0
    clock = time.perf_counter
    until = clock() + seconds

    async def caller() -> None:
        nonlocal done
        while clock() < until:
            code = await ask()
            done += not code

    began = clock()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return done / (clock() - began)


def asking(bus: NatsBus, tool: str) -> Ask:
    """One call on the bus: `""` when it gave a result, the error's code otherwise."""
    subject = EXECUTE.of(NODE, tool)
    payload = encode(CallParams(name=tool, arguments={"seconds": PAUSE}))

    async def ask() -> str:
        headers = {Header.TIMEOUT_MS: str(int(1000 * TIMEOUT)), Header.REQUEST_ID: new_request_id()}
        try:
            reply = await bus.request(subject, payload, timeout=TIMEOUT, headers=headers)
        except FederationError as error:
            return error.code
        return decode(reply.payload, ErrorReply).code if Header.ERROR_CODE in reply.headers else ""

    return ask


def trying_again(client: FederationClient, tool: str) -> Ask:
    """The same by the Python client, which tries again what was refused."""

    async def ask() -> str:
        try:
            await client.execute(f"{tool}@{NODE}", {"seconds": PAUSE}, timeout=TIMEOUT)
        except FederationError as error:
            return error.code
        return ""

    return ask


async def start(group: Group, in_flight: int) -> tuple[str, Path]:
    """Start nats-server, governance and the node; its URL and governance's key, once all is published."""
    url = await start_nats(group)
    state = group.folder / "state"
    state.mkdir(mode=0o700)
    key_file = state / "governance.pub"
    config = group.folder / "servers.json"
    server = {"command": sys.executable, "args": ["-m", "benchmarks.slow_toolbox"]}
    config.write_text(json.dumps({"mcpServers": {"stdio": {**server, "env": {"PYTHONPATH": str(ROOT)}}}}))
    env = {**bench_environment(), "MCP_FEDERATION_MAX_IN_FLIGHT": str(in_flight)}
    cli = [sys.executable, "-m", "mcp_federation.cli"]
    common = ["--nats", url, "--state-dir", str(state)]
    group.start("governance", [*cli, "governance", *common], env)
    await group.until("governance", key_file.exists)
    node = ["node", "--name", NODE, "--config", str(config), "--toolbox", "benchmarks.slow_toolbox:server"]
    group.start("node", [*cli, *node, *common, "--trust", str(key_file)], env)
    async with FederationClient.connect(url, read_trusted_keys([str(key_file)])) as client:
        state_of = client.catalog.state
        if not await client.catalog.wait_until(
            lambda: all(state_of.get(NODE, name) for name in TOOLS.values()), 60
        ):
            raise StartFailed(f"the node did not publish its tools: {group.last_line('node')}")
    return url, key_file


async def measure(options: argparse.Namespace, folder: Path, progress: Console) -> dict[str, list[Step]]:
    """Every rate, for each kind of server."""
    steps: dict[str, list[Step]] = {}
    rng = random.Random(options.seed)
    with Group(folder) as group:
        url, key_file = await start(group, IN_FLIGHT)
        async with (
            await NatsBus.connect(url) as bus,
            FederationClient.connect(url, read_trusted_keys([str(key_file)])) as client,
        ):
            gc.collect()
            gc.freeze()
            for kind in options.only or TOOLS:
                tool = TOOLS[kind]
                ask = trying_again(client, tool) if options.client else asking(bus, tool)
                await capacity(ask, IN_FLIGHT, 0.5)
                carried = await capacity(ask, IN_FLIGHT, options.seconds)
                progress.print(f"[dim]{kind}: {carried:,.0f} calls/s with {IN_FLIGHT} in flight")
                for multiple in MULTIPLES:
                    step = Step(multiple, multiple * carried, options.seconds)
                    before = group.cpu_seconds()
                    await offer(ask, step, rng)
                    used = used_between(before, group.cpu_seconds())
                    step.cpu = {name: seconds / step.seconds for name, seconds in used.items()}
                    steps.setdefault(kind, []).append(step)
    return steps


def table_of(kind: str, steps: Sequence[Step]) -> Table:
    """One kind of server; latencies in ms."""
    peak = max(step.goodput for step in steps)
    table = Table(title=f"{kind}: {IN_FLIGHT} at once, {1000 * PAUSE:g} ms each", title_justify="left")
    for name in ("offered", "calls/s", "goodput/s", "of peak", "answered p99", "refused/s"):
        table.add_column(name, justify="right")
    for name in ("refused p50", "p99", "max", "own lag", "CPU node", "load"):
        table.add_column(name, justify="right")
    table.add_column("else")
    for step in steps:
        refused, answered = sorted(step.refused), sorted(step.answered)
        table.add_row(
            f"{step.multiple:g}x",
            number(step.sent / step.seconds),
            number(step.goodput),
            f"{step.goodput / peak:.0%}",
            milliseconds(percentile(answered, 0.99)),
            number(len(refused) / step.seconds),
            *(milliseconds(percentile(refused, share)) for share in (0.5, 0.99, 1.0)),
            milliseconds(step.lag),
            f"{step.cpu.get('node', 0.0):.0%}",
            f"{step.cpu.get(CALLER, 0.0):.0%}",
            ", ".join(f"{count} {code}" for code, count in step.failed.items()),
        )
    return table


def as_json(steps: Sequence[Step]) -> list[dict[str, object]]:
    """Plain data; latencies in seconds."""
    peak = max(step.goodput for step in steps)
    return [
        {
            **{key: value for key, value in asdict(step).items() if key not in ("answered", "refused")},
            "goodput": step.goodput,
            "of_peak": step.goodput / peak,
            "refused": len(step.refused),
            "refused_max": max(step.refused, default=None),
        }
        for step in steps
    ]


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.split(":")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each rate (2)")
    parser.add_argument("--only", action="append", choices=TOOLS, help="only this kind of server; repeatable")
    parser.add_argument("--client", action="store_true", help="calls of the Python client, with its retries")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args(argv)
    options.seconds = max(0.2, min(10.0, options.seconds))
    configure_logs("error")
    folder = Path(tempfile.mkdtemp(prefix="mcpfed-overload-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            steps = runner.run(measure(options, folder, Console(stderr=True, highlight=False)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console = Console(width=None if sys.stdout.isatty() else 150)
    for kind, each in steps.items():
        console.print(table_of(kind, each))
    if options.json:
        options.json.write_text(
            json.dumps({kind: as_json(each) for kind, each in steps.items()}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
