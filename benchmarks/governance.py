"""Does governance hold attacks and let honest tools pass? `python -m benchmarks.governance --data DIR`.

DIR has JSON lines of labelled tools. Every figure of ours is by leave-one-source-out: the model that judges
a tool was trained without the tool's source. `--shipped` takes the weights of the package instead, for data
that they have not seen; `--families` also leaves each family of generated attacks out; `--speed` measures
the verdicts a second and nothing else; `--json FILE` writes the same as data. Scanners that are installed
beside it are measured on the same tools.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.governance_report import print_report, print_speed
from benchmarks.governance_rows import (
    Outcome,
    as_shipped,
    label_of,
    leave_family_out,
    leave_one_source_out,
    speed,
)
from benchmarks.governance_scanners import SCANNERS
from benchmarks.report import WIDTH
from scripts.detector.data import DECLARED, IN_THE_WILD, Row, load

BINS = (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)


def tally(outcomes: Iterable[Outcome], key: Callable[[Row], str]) -> list[dict[str, Any]]:
    """Decisions by a key of the tools, in the key's order."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome.row), []).append(outcome)
    return [
        {
            "of": name,
            "tools": len(group),
            "quarantined": sum(each.decision == "quarantined" for each in group),
            "rejected": sum(each.decision == "rejected" for each in group),
            "not_approved": sum(each.is_held for each in group),
        }
        for name, group in sorted(groups.items())
    ]


def bar(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The figures that a release is held to."""
    wanted: tuple[tuple[str, str, Callable[[Row], bool]], ...] = (
        (
            "attacks in descriptions, not approved",
            "≥ 92 %",
            lambda row: bool(row.attack) and row.signal != DECLARED,
        ),
        ("malicious capability, not approved", "≥ 80 %", lambda row: row.signal == DECLARED),
        ("tools in the wild, not approved", "≤ 0.5 %", lambda row: row.kind == IN_THE_WILD),
    )
    found: list[dict[str, Any]] = []
    for what, target, belongs in wanted:
        group = [each for each in outcomes if belongs(each.row)]
        held = sum(each.is_held for each in group)
        found.append({"what": what, "wanted": target, "tools": len(group), "held": held})
    dual = [each for each in outcomes if each.row.kind == "dual_use_security"]
    rejected = sum(each.decision == "rejected" for each in dual)
    found.append(
        {"what": "dual-use security tools, rejected", "wanted": "0", "tools": len(dual), "held": rejected}
    )
    return found


def calibration(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """What the model's probabilities are worth: in each band, the mean of them and the share of attacks."""
    found = []
    for low, high in pairwise(BINS):
        band = [
            (probability, label_of(each.row) == head)
            for each in outcomes
            for head, probability in each.probability.items()
            if label_of(each.row) in ("", head) and (low <= probability < high or probability == high == 1.0)
        ]
        mean = sum(probability for probability, _ in band) / len(band) if band else 0.0
        found.append(
            {
                "from": low,
                "to": high,
                "tools": len(band),
                "mean": mean,
                "attacks": sum(hit for _, hit in band),
            }
        )
    return found


def scanners(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every other scanner on the same tools: any finding of its counts."""
    found: list[dict[str, Any]] = []
    for scanner in SCANNERS:
        reason = scanner.absent()
        if reason:
            found.append({"scanner": scanner.name, "absent": reason})
            continue
        flagged = scanner.flagged(rows)
        in_description = [row for row in rows if row.attack and row.signal != DECLARED]
        wild = [row for row in rows if row.kind == IN_THE_WILD]
        found.append(
            {
                "scanner": scanner.name,
                "attacks": len(in_description),
                "caught": sum(row.id in flagged for row in in_description),
                "wild": len(wild),
                "false_alarms": sum(row.id in flagged for row in wild),
            }
        )
    return found


def measure(rows: list[Row], arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    outcomes = as_shipped(rows) if arguments.shipped else leave_one_source_out(rows, say)
    families = leave_family_out(rows, say) if arguments.families else {}
    attacks = [each for each in outcomes if each.row.attack]
    honest = [each for each in outcomes if not each.row.attack]
    return {
        "by": "the shipped weights" if arguments.shipped else "leave-one-source-out",
        "bar": bar(outcomes),
        "by_attack": tally(attacks, lambda row: row.attack),
        "by_source": tally(attacks, lambda row: row.source),
        "by_kind": tally(honest, lambda row: row.kind),
        "by_honest_source": tally(honest, lambda row: row.source),
        "calibration": calibration(outcomes),
        "families": {name: {"held": held, "tools": tools} for name, (held, tools) in families.items()},
        "scanners": scanners(rows),
        "speed": measure_speed(rows),
        "held_in_the_wild": [
            {"id": each.row.id, "rules": each.rules}
            for each in honest
            if each.is_held and each.row.kind == IN_THE_WILD
        ],
        "approved_attacks": [each.row.id for each in attacks if not each.is_held],
    }


def measure_speed(rows: Sequence[Row]) -> dict[str, float]:
    return asdict(speed(random.Random(1).sample(rows, len(rows))))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled tools")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument(
        "--shipped", action="store_true", help="judge by the weights of the package, train none"
    )
    parser.add_argument(
        "--families", action="store_true", help="leave each family of generated attacks out, too"
    )
    parser.add_argument(
        "--speed", action="store_true", help="only how many verdicts there are a second, in seconds"
    )
    arguments = parser.parse_args()
    console = Console(width=WIDTH)
    try:
        rows = load(arguments.data)
    except (OSError, ValueError) as error:
        print(f"governance benchmark: {error}", file=sys.stderr)
        return 2
    report: dict[str, Any]
    if arguments.speed:
        report = {"speed": measure_speed(rows)}
        print_speed(console, report["speed"])
    else:
        report = measure(rows, arguments, lambda text: console.print(f"[dim]{text}[/dim]"))
        print_report(console, report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
