"""Write public sets of requests with tools in the benchmark's form: `python scripts/training_sets.py --help`.

The repositories (`SETS` names them with their licences) lie checked out side by side in one folder. What the
benchmark asks is not written: a request that a set of `--benchmark` has is left out. The sets of `HELD_OUT`
measure; nothing is learned from them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file

from scripts import held_out_readers as held_out
from scripts import training_readers as readers
from scripts.training_readers import Written, described, lines

PERMISSIVE = ("MIT", "MIT (repo)", "Apache-2.0")

SETS: Mapping[str, tuple[str, str, Callable[[Path], Written]]] = {
    "metatool_more": ("MetaTool", "MIT", readers.metatool),
    "seal": ("Seal-Tools", "Apache-2.0", readers.seal),
    "bfcl": ("gorilla", "Apache-2.0", readers.bfcl),
    "toolbench": ("StableToolBench", "Apache-2.0", readers.toolbench),
    "nestful": ("NESTFUL", "Apache-2.0", readers.nestful),
    "toolalpaca": ("ToolAlpaca", "Apache-2.0", readers.toolalpaca),
    "apibench": ("gorilla", "Apache-2.0", readers.apibench),
    "restbench": ("RestGPT", "MIT", readers.restbench),
    "clinc": ("oos-eval", "CC BY 3.0", readers.clinc),
    "banking": ("task-specific-datasets", "CC BY 4.0", readers.banking),
    "home": ("NLU-Evaluation-Data", "CC BY 4.0", readers.home),
    "taskbench": ("JARVIS", "MIT", readers.taskbench),
    "public_apis": ("ToolAlpaca", "Apache-2.0", readers.public_apis),
    "livemcp": ("LiveMCPBench", "Apache-2.0", readers.livemcp),
    "callnavi": ("CallNavi", "MIT", readers.callnavi),
    "apibank": ("DAMO-ConvAI", "Apache-2.0", readers.apibank),
    "anytool": ("AnyTool", "Apache-2.0", readers.anytool),
    "tldr": ("tldr", "CC BY 4.0", readers.tldr),
    "apizoo": ("gorilla", "Apache-2.0", readers.apizoo),
}
"""By the set's name: its repository's folder, its licence, and its reader."""

HELD_OUT: Mapping[str, tuple[str, Callable[[Path], Written]]] = {
    "acebench": ("ACEBench", held_out.acebench),
    "azuremcp": ("mcp", held_out.azure_mcp),
    "tooltalk": ("ToolTalk", held_out.tooltalk),
    "ultratool": ("UltraTool", held_out.ultratool),
}
"""The same of sets that are not learned from, whatever their licence."""


def tool_lists(path: Path) -> Written:
    """The tools of rows `name, description, server, input_schema, license` under a permissive licence."""
    found = Written()
    for place, row in enumerate(lines(path)):
        if row.get("license") in PERMISSIVE:
            properties = (row.get("input_schema") or {}).get("properties") or {}
            found.tool(place, row["name"], row.get("server") or "", row["description"], described(properties))
    return found


def write(found: Written, name: str, folder: Path, asked: frozenset[str]) -> None:
    """The set's two files, without the requests that the benchmark asks."""
    ids = {key: str(place) for place, key in enumerate(found.tools)}
    rows = [{"tool_id": ids[key], **row} for key, row in found.tools.items()]
    requests = [
        {"query": text, "relevant": [ids[key] for key in keys]}
        for text, keys in found.requests
        if text.casefold() not in asked
    ]
    for kind, written in (("tools", rows), ("queries", requests)):
        path = folder / f"retrieval_{name}_{kind}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    print(f"{name}: {len(rows)} tools, {len(requests)} requests")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=Path, required=True, help="their checkouts, by name")
    parser.add_argument("--benchmark", type=Path, required=True, help="the sets that are not to be learned")
    parser.add_argument("--tool-lists", type=Path, help="rows of tools without requests")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--held-out", type=Path, help="the folder for sets that are not learned from")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    asked = frozenset(
        row["query"].strip().casefold()
        for path in args.benchmark.glob("retrieval_*_queries.jsonl")
        for row in lines(path)
    )
    for name, (repository, _, reader) in SETS.items():
        write(reader(args.repositories / repository), name, args.out, asked)
    if args.held_out:
        args.held_out.mkdir(parents=True, exist_ok=True)
        for name, (repository, held_out_reader) in HELD_OUT.items():
            write(held_out_reader(args.repositories / repository), name, args.held_out, frozenset())
    if args.tool_lists:
        write(tool_lists(args.tool_lists), "lists", args.out, asked)


if __name__ == "__main__":
    main()
