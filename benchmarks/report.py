"""Tables of what was measured, and the comparisons that the rows are there for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Cell, added_latency, ratio
from benchmarks.targets import Target

WIDTH = 150
SHOWN_PROCESSES = 4

Key = tuple[str, int, int]
"""Target, size in bytes, number in flight."""


@dataclass(frozen=True)
class Comparison:
    """Ours against theirs. `bar` is the ratio of calls/s wanted at `bar_at` in flight."""

    title: str
    ours: str
    theirs: str
    bar: float
    bar_at: int = 64


COMPARISONS = (
    Comparison("client.execute ÷ nc.request", "2-mesh", "1-nats", 1.0),
    Comparison("POST /execute ÷ FastAPI + nc.request", "3-edge", "3-fastapi", 1.5),
    Comparison("mesh ÷ SDK client, streamable HTTP", "4-mesh-http", "4-sdk-http", 1.0),
    Comparison("mesh ÷ SDK client, stdio", "4-mesh-stdio", "4-sdk-stdio", 0.9),
    Comparison("POST /execute ÷ FastMCP proxy", "5-edge", "5-fastmcp", 20.0),
    Comparison("POST /execute ÷ FastMCP proxy, kept session", "5-edge", "5-fastmcp-kept", 5.0),
    Comparison("POST /execute ÷ ContextForge", "5-edge", "5-contextforge", 20.0),
    Comparison("POST /execute ÷ mcp-proxy (stdio)", "5-edge-stdio", "5-mcp-proxy", 1.0),
)


def number(value: float, digits: int = 0) -> str:
    """A number for a table, with thousands apart; a dash for none."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def milliseconds(seconds: float) -> str:
    """A latency for a table."""
    return number(seconds * 1000, 3 if seconds < 0.01 else 1)


def print_report(
    console: Console,
    targets: Sequence[Target],
    cells: Mapping[Key, Cell],
    sizes: Sequence[int],
    in_flight: Sequence[int],
) -> None:
    """Print a table a size, and the comparisons."""
    for size in sizes:
        console.print(_measurements(targets, cells, size, in_flight))
    console.print(_comparisons(cells, sizes, in_flight))


def _measurements(
    targets: Sequence[Target], cells: Mapping[Key, Cell], size: int, in_flight: Sequence[int]
) -> Table:
    table = Table(title=f"{size:,} bytes each way", title_justify="left")
    table.add_column("row")
    table.add_column("what")
    for name in ("in flight", "calls/s", "p50 ms", "p99 ms", "CPU s / 1,000"):
        table.add_column(name, justify="right")
    table.add_column("of which")
    for target in targets:
        if target.reason:
            table.add_row(str(target.row), target.title, "", "", "", "", "", f"not measured: {target.reason}")
        for count in in_flight:
            cell = cells.get((target.key, size, count))
            if cell is None:
                continue
            first = count == in_flight[0]
            table.add_row(
                str(target.row) if first else "",
                target.title if first else "",
                str(count),
                number(cell.rate),
                milliseconds(cell.p50),
                milliseconds(cell.p99),
                number(cell.cpu_total, 3),
                _remark(cell),
                end_section=count == in_flight[-1],
            )
    return table


def _remark(cell: Cell) -> str:
    parts = list(cell.cpu_by_process.items())[:SHOWN_PROCESSES]
    text = " ".join(f"{name} {value:.3f}" for name, value in parts)
    if cell.errors:
        text += f" | {len(cell.errors)} failed: {cell.errors[0]}"
    return text


def _comparisons(cells: Mapping[Key, Cell], sizes: Sequence[int], in_flight: Sequence[int]) -> Table:
    table = Table(title="calls/s, ours ÷ theirs (median over rounds)", title_justify="left")
    table.add_column("comparison")
    table.add_column("bytes", justify="right")
    for count in in_flight:
        table.add_column(f"{count} in flight", justify="right")
    table.add_column("added p50, 1 in flight", justify="right")
    table.add_column("p99 ours / theirs at 64", justify="right")
    table.add_column("wanted", justify="right")
    for comparison in compared(cells, sizes, in_flight):
        added = comparison["added_p50_us"]
        table.add_row(
            comparison["title"],
            f"{comparison['size']:,}",
            *(f"{number(comparison['ratios'][str(count)], 2)}x" for count in in_flight),
            "-" if math.isnan(added) else f"{added:+,.0f} µs",
            " / ".join(milliseconds(value) for value in comparison["p99_s"]),
            f"≥ {comparison['bar']:g}x at {comparison['bar_at']}",
        )
    return table


def compared(
    cells: Mapping[Key, Cell], sizes: Sequence[int], in_flight: Sequence[int]
) -> list[dict[str, Any]]:
    """The comparisons of what was measured."""
    empty = Cell()
    found = []
    for comparison in COMPARISONS:
        for size in sizes:
            ours = {count: cells.get((comparison.ours, size, count), empty) for count in in_flight}
            theirs = {count: cells.get((comparison.theirs, size, count), empty) for count in in_flight}
            if not all(cell.rates for cell in (*ours.values(), *theirs.values())):
                continue
            single, many = min(in_flight), max(in_flight)
            found.append(
                {
                    "title": comparison.title,
                    "size": size,
                    "ratios": {str(count): ratio(ours[count], theirs[count]) for count in in_flight},
                    "added_p50_us": 1e6 * added_latency(ours[single], theirs[single]),
                    "p99_s": [ours[many].p99, theirs[many].p99],
                    "bar": comparison.bar,
                    "bar_at": comparison.bar_at,
                }
            )
    return found


def as_json(
    targets: Sequence[Target], cells: Mapping[Key, Cell], sizes: Sequence[int], in_flight: Sequence[int]
) -> dict[str, Any]:
    """All that was measured, as plain data; latencies in seconds, CPU in seconds per 1,000 calls."""
    titles = {target.key: target for target in targets}
    return {
        "targets": [
            {"key": each.key, "row": each.row, "title": each.title, "not_measured": each.reason or None}
            for each in targets
        ],
        "cells": [
            {
                "target": key,
                "row": titles[key].row,
                "size": size,
                "in_flight": count,
                "calls": cell.calls,
                "calls_per_second": cell.rate,
                "p50": cell.p50,
                "p99": cell.p99,
                "cpu_per_1000": cell.cpu_total,
                "cpu_per_1000_by_process": cell.cpu_by_process,
                "rounds": cell.rates,
                "errors": cell.errors[:5],
            }
            for (key, size, count), cell in cells.items()
        ],
        "comparisons": compared(cells, sizes, in_flight),
    }
