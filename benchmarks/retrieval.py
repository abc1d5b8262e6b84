"""Retrieval over folders of requests: `python benchmarks/retrieval.py --data DIR [--json FILE]`.

Per set and system: recall, nDCG and completeness, ms a request, time to index, memory. The systems are the
engine as it comes (offline), the ablation of its parts, and plain baselines; a baseline whose package is not
installed has a row that says so. Each system and set runs in a process of its own with one thread.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, its siblings are a package

from rich.console import Console
from rich.table import Table

from benchmarks.report import WIDTH, number
from benchmarks.retrieval_data import load_sets
from benchmarks.retrieval_systems import SYSTEMS
from benchmarks.retrieval_worker import alone, together

_COLUMNS = (
    ("R@1", "recall_1", 3),
    ("R@5", "recall_5", 3),
    ("R@10", "recall_10", 3),
    ("nDCG@10", "ndcg_10", 3),
    ("compl@10", "completeness_10", 3),
    ("p50 ms", "p50_ms", 2),
    ("p99 ms", "p99_ms", 2),
    ("index s", "index_s", 2),
    ("MiB", "memory_mib", 0),
)

_SPEED = (
    ("p50_ms", "a request, p50, ms", 2),
    ("p99_ms", "a request, p99, ms", 2),
    ("cpu_p50_ms", "its CPU time, p50, ms (what counts on a busy machine)", 2),
    ("cpu_p99_ms", "its CPU time, p99, ms", 2),
    ("per_s_two_processes", "requests/s, two processes", 0),
    ("change_ms", "until a change is found, worst of 20, ms", 2),
    ("memory_mib", "memory above a bare Python process, tools included, MiB", 0),
    ("start_s", "from the start of the process to the first answer, with a saved index, s", 2),
    ("start_without_index_s", "the same without one, s", 2),
)
REQUESTS = 1_000


def print_set(console: Console, name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """The table of one set."""
    table = Table("system", *(title for title, _, _ in _COLUMNS), title=name)
    for column in table.columns[1:]:
        column.justify = "right"
    for system, found in rows.items():
        if "missing" in found:
            table.add_row(system, f"not installed: {found['missing']}")
        else:
            table.add_row(system, *(number(found[key], digits) for _, key, digits in _COLUMNS))
    console.print(table)


def measure_speed(data: Path, tools: int) -> dict[str, float]:
    """The engine over many tools: without and with a saved index, and two processes at once."""
    with tempfile.TemporaryDirectory() as cache:
        given = {"folder": str(data.resolve()), "tools": tools, "cache": cache, "requests": REQUESTS}
        cold = alone("many_tools", **given)
        warm = alone("many_tools", **given)
        two = together(2, "many_tools", **given)
    return {
        **warm,
        "start_without_index_s": cold["start_s"],
        "per_s_two_processes": sum(process["per_s"] for process in two),
    }


def print_speed(console: Console, tools: int, speed: Mapping[str, float]) -> None:
    """The table of the test of speed."""
    table = Table("what", "figure", title=f"{tools:,} tools, one thread")
    for key, name, digits in _SPEED:
        table.add_row(name, number(speed[key], digits))
    console.print(table)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of retrieval sets")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--set", action="append", default=[], help="only this set")
    parser.add_argument("--system", action="append", default=[], choices=SYSTEMS, help="only this system")
    parser.add_argument("--tools", type=int, default=10_000, help="tools of the test of speed; 0 for none")
    parser.add_argument("--sample", type=int, default=0, help="at most so many requests of each set")
    return parser.parse_args(argv)


def main() -> int:
    args = arguments()
    console = Console(width=WIDTH)
    try:
        sets = load_sets(args.data, args.set)
    except FileNotFoundError as error:
        console.print(str(error))
        return 2
    figures: dict[str, dict[str, Any]] = {}
    for data in sets:
        console.print(f"{data.name}: {len(data.requests)} requests, {len(data.tools)} tools")
        figures[data.name] = {
            system: alone(
                "measure", folder=str(args.data.resolve()), name=data.name, system=system, sample=args.sample
            )
            for system in (args.system or SYSTEMS)
        }
        print_set(console, data.name, figures[data.name])
    speed = measure_speed(args.data, args.tools) if args.tools else {}
    if speed:
        print_speed(console, args.tools, speed)
    if args.json:
        args.json.write_text(json.dumps({"sets": figures, "speed": speed}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
