"""Retrieval over folders of requests: `python benchmarks/retrieval.py --data DIR [--json FILE]`.

Per set and system: recall, nDCG and completeness, ms a request, time to index, memory. The systems are the
engine as it comes (offline), the ablation of its parts, and plain baselines; a baseline whose package is not
installed has a row that says so. Each system and set runs in a process of its own with one thread.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, its siblings are a package

from rich.console import Console
from rich.table import Table

from benchmarks.report import WIDTH, number
from benchmarks.retrieval_data import load_sets
from benchmarks.retrieval_systems import SYSTEMS
from benchmarks.retrieval_worker import alone

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


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of retrieval sets")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--set", action="append", default=[], help="only this set")
    parser.add_argument("--system", action="append", default=[], choices=SYSTEMS, help="only this system")
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
    if args.json:
        args.json.write_text(json.dumps({"sets": figures}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
