"""Thousands of registrations, and a few on the side: `python -m benchmarks.registrations [--json FILE]`.

Some nodes register all their tools at the same time, as many in flight as a node has; another node registers
one tool after the other meanwhile, and is not to wait. Governance workers are processes of their own, one for
each core. What is timed is a verdict: checked, signed where approved, stored, and noted in the audit trail.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.group import Group, used_between
from benchmarks.load import percentile
from benchmarks.mesh import bench_environment, start_nats
from benchmarks.report import WIDTH, milliseconds, number
from benchmarks.scale import schema
from mcp_federation.bus.nats import NatsBus
from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.messages import Registration, Tool, Verdict, decode, encode
from mcp_federation.contract.subjects import REGISTER
from mcp_federation.logs import configure_logs
from mcp_federation.node.publication.registrar import AT_ONCE

TIMEOUT = 120.0
PAUSE = 0.1
"""Seconds between two registrations of the node on the side."""

LONGEST = 1.0
"""Seconds that a registration on the side may take."""

VERBS = ("Lists", "Counts", "Converts", "Renders", "Compares", "Sorts", "Merges", "Validates", "Plots")
NOUNS = ("invoices", "ferry routes", "star charts", "recipes", "soil samples", "tide tables", "chess games")


def registration(node: str, seed: int) -> Registration:
    """An honest tool, another one for each seed."""
    raw = schema(seed)
    verb, noun = VERBS[seed % len(VERBS)], NOUNS[seed % len(NOUNS)]
    tool = canonical_tool(
        Tool(
            name=f"tool_{seed}",
            description=f"{verb} the {noun} of district {seed}. Use it when somebody asks for them by year.",
            input_schema=msgspec.Raw(raw),
            parameters=tuple(msgspec.json.decode(raw)["properties"]),
        )
    )
    return Registration(node=node, tool=tool, digest=tool_digest(tool))


class Desk:
    """Registers tools, and notes how long each took and what was decided."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self.seconds: list[float] = []
        self.decisions: Counter[str] = Counter()

    async def register(self, node: str, seed: int) -> None:
        """Register one tool of a node."""
        payload = encode(registration(node, seed))
        began = time.perf_counter()
        reply = await self._bus.request(REGISTER.of(node), payload, timeout=TIMEOUT)
        self.seconds.append(time.perf_counter() - began)
        self.decisions[decode(reply.payload, Verdict).decision] += 1


async def bulk(bus: NatsBus, nodes: int, tools: int) -> tuple[Desk, float]:
    """All tools of some nodes at once; what was noted, and the seconds over all."""
    desk = Desk(bus)

    async def work(node: str, seeds: Iterator[int]) -> None:
        for seed in seeds:
            await desk.register(node, seed)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for place in range(nodes):
            seeds = iter(range(place * tools, (place + 1) * tools))
            for _ in range(AT_ONCE):
                group.create_task(work(f"node-{place:03}", seeds))
    return desk, time.perf_counter() - began


async def on_the_side(bus: NatsBus, first: int) -> Desk:
    """One registration after the other, until cancelled."""
    desk = Desk(bus)
    try:
        for seed in count(first):
            await desk.register("aside", seed)
            await asyncio.sleep(PAUSE)
    except asyncio.CancelledError:
        return desk
    raise AssertionError("numbers do not end")


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Start the workers, and register."""
    with Group(folder) as group:
        url = await start_nats(group)
        state = folder / "state"
        state.mkdir(mode=0o700)
        argv = [
            sys.executable,
            "-m",
            "mcp_federation.cli",
            "governance",
            "--nats",
            url,
            "--state-dir",
            str(state),
        ]
        for place in range(options.workers):
            group.start(f"worker-{place}", argv, bench_environment())
            await group.until(f"worker-{place}", (state / "governance.pub").exists)
        async with await NatsBus.connect(url) as bus:
            for place in range(20 * options.workers):  # until all are there, warm
                await Desk(bus).register("first", 10**7 + place)
            before = group.cpu_seconds()
            aside = asyncio.get_running_loop().create_task(on_the_side(bus, 10**6))
            desk, seconds = await bulk(bus, options.nodes, options.tools)
            aside.cancel()
            alone = await aside
            used = used_between(before, group.cpu_seconds())
    return {
        "registrations": len(desk.seconds),
        "seconds": seconds,
        "decisions": dict(desk.decisions),
        "bulk": sorted(desk.seconds),
        "aside": sorted(alone.seconds),
        "cpu": {name: seconds for name, seconds in used.items() if seconds},
    }


def print_result(console: Console, result: dict[str, Any]) -> None:
    """The table."""
    table = Table(title=f"{result['registrations']:,} registrations at once", title_justify="left")
    for name in ("what", "figure", "wanted"):
        table.add_column(name, justify="left" if name == "what" else "right")
    table.add_row("registrations/s", number(result["registrations"] / result["seconds"], 0), "")
    for name in ("p50", "p99"):
        share = float(f"0.{name[1:]}")
        table.add_row(f"one of them, {name} ms", milliseconds(percentile(result["bulk"], share)), "")
    for name, share, wanted in (("p50", 0.5, ""), ("max", 1.0, f"≤ {1000 * LONGEST:,.0f}")):
        what = f"one on the side ({len(result['aside'])} of them), {name} ms"
        table.add_row(what, milliseconds(percentile(result["aside"], share)), wanted)
    for name, seconds in sorted(result["cpu"].items()):
        table.add_row(f"CPU of {name}, of one core", f"{seconds / result['seconds']:.0%}", "")
    for name, found in sorted(result["decisions"].items()):
        table.add_row(name, f"{found:,}", "")
    console.print(table)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; its exit code."""
    summary = (__doc__ or "").split("\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registrations", description=summary)
    parser.add_argument("--nodes", type=int, default=20, help="nodes (20)")
    parser.add_argument("--tools", type=int, default=500, help="tools a node (500)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="governance workers (the cores)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args(argv)
    configure_logs("error")
    folder = Path(tempfile.mkdtemp(prefix="mcpfed-bench-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(measure(options, folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_result(Console(width=None if sys.stdout.isatty() else WIDTH), result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
