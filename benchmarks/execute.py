"""Side-by-side measurements of execution: `python -m benchmarks.execute [--quick] [--peers] [--json FILE]`.

Everything runs on this machine, over 127.0.0.1, bounded in calls under way and in time. Each round measures
every target once, so that ratios compare neighbours in time; what is printed is the median over the rounds.
CPU is that of all processes, the load's own included. HTTP is called by one lean client for all sides.
"""

import argparse
import asyncio
import gc
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks.group import Group, used_between
from benchmarks.load import Load, run_load
from benchmarks.peers import CACHE, start_peers
from benchmarks.report import WIDTH, Key, as_json, print_report
from benchmarks.rounds import Cell, turn
from benchmarks.targets import Target, running_bench
from mcp_federation.logs import configure_logs

SIZES = (200, 64 * 1024)
IN_FLIGHT = (1, 16, 64)
WARM_UP = 0.1
"""The share of a measurement's time that goes before it."""

MAX_CALLS = 200_000


@dataclass(frozen=True)
class Plan:
    """What to measure, and for how long: `seconds` for each cell of each round."""

    rows: set[int]
    keys: set[str]
    rounds: int
    seconds: float
    sizes: tuple[int, ...]
    in_flight: tuple[int, ...]

    @property
    def started(self) -> set[int]:
        """The rows whose servers are needed."""
        return self.rows | {int(key.partition("-")[0]) for key in self.keys}

    def wants(self, target: Target) -> bool:
        """Whether a target is to be measured; row 2 is nothing without the first."""
        floor = target.row == 1 and 2 in self.rows
        return floor or target.row in self.rows or target.key in self.keys


def parse(argv: Sequence[str]) -> tuple[Plan, argparse.Namespace]:
    """The plan that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.execute", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under a minute: two short rounds of rows 1-4")
    parser.add_argument("--peers", action="store_true", help="row 5 too: installs the peers where missing")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the peers' environments are kept")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=float, help="seconds for each measurement (1)")
    only = "only this row, or this target of one (2-mesh); repeatable"
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help=only)
    for flag, metavar in (("--size", "BYTES"), ("--in-flight", "N")):
        parser.add_argument(flag, type=int, action="append", metavar=metavar, help="only this; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args(argv)
    wanted = options.only or ["1", "2", "3", "4", *(["5"] if options.peers else [])]
    if unknown := [each for each in wanted if each.partition("-")[0] not in ("1", "2", "3", "4", "5")]:
        parser.error(f"there is no row {unknown[0]}")
    plan = Plan(
        rows={int(each) for each in wanted if each.isdigit()},
        keys={each for each in wanted if not each.isdigit()},
        rounds=max(1, options.rounds or (2 if options.quick else 5)),
        seconds=max(0.05, min(60.0, options.seconds or (0.2 if options.quick else 1.0))),
        sizes=tuple(options.size or SIZES),
        in_flight=tuple(sorted(min(256, max(1, count)) for count in options.in_flight or IN_FLIGHT)),
    )
    return plan, options


async def measure(group: Group, targets: Sequence[Target], plan: Plan, console: Console) -> dict[Key, Cell]:
    """All rounds over all targets."""
    running = [target for target in targets if not target.reason]
    cells: dict[Key, Cell] = {}
    for number in range(plan.rounds):
        for size in plan.sizes:
            for in_flight in plan.in_flight:
                console.print(f"[dim]round {number + 1}/{plan.rounds}, {size:,} bytes, {in_flight} in flight")
                for target in turn(running, number):
                    cell = cells.setdefault((target.key, size, in_flight), Cell())
                    await _measure_once(group, target, size, in_flight, plan.seconds, cell)
    order = {target.key: place for place, target in enumerate(targets)}
    return dict(sorted(cells.items(), key=lambda item: (order[item[0][0]], *item[0][1:])))


async def _measure_once(
    group: Group, target: Target, size: int, in_flight: int, seconds: float, cell: Cell
) -> None:
    call = target.prepare(size)
    await run_load(call, Load(in_flight, WARM_UP * seconds, MAX_CALLS))
    before = group.cpu_seconds()
    sample = await run_load(call, Load(in_flight, seconds, MAX_CALLS))
    cell.add(sample, used_between(before, group.cpu_seconds()))


async def run(plan: Plan, options: argparse.Namespace, folder: Path) -> None:
    """Start everything, measure it, report, stop everything."""
    # A table may go to a file: it then keeps its width.
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    progress = Console(stderr=True, highlight=False)
    task = asyncio.current_task()
    assert task is not None
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    with Group(folder) as group:
        async with AsyncExitStack() as stack:
            bench = await stack.enter_async_context(running_bench(group, plan.started))
            targets = bench.targets
            if 5 in plan.started:
                targets = targets + await start_peers(bench, stack, options.cache, progress.print)
            targets = [target for target in targets if plan.wants(target)]
            gc.collect()
            gc.freeze()
            cells = await measure(group, targets, plan, progress)
    print_report(console, targets, cells, plan.sizes, plan.in_flight)
    if options.json:
        report = as_json(targets, cells, plan.sizes, plan.in_flight)
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; its exit code."""
    plan, options = parse(argv)
    configure_logs("error")
    folder = Path(tempfile.mkdtemp(prefix="mcpfed-bench-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(plan, options, folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
