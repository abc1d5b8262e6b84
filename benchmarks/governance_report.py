"""Tables of what governance decided about labelled tools."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = Sequence[Mapping[str, Any]]


def print_report(console: Console, report: dict[str, Any]) -> None:
    console.print(bar_table(report["by"], report["bar"]))
    for title, key in (
        ("Attacks by kind", "by_attack"),
        ("Attacks by source", "by_source"),
        ("Honest tools by kind", "by_kind"),
        ("Honest tools by source", "by_honest_source"),
    ):
        console.print(tally_table(title, report[key]))
    console.print(calibration_table(report["calibration"]))
    if report["families"]:
        console.print(families_table(report["families"]))
    console.print(scanners_table(report["scanners"]))
    print_speed(console, report["speed"])


def print_speed(console: Console, found: dict[str, float]) -> None:
    per_second, median = found["per_second"], found["p50_ms"]
    console.print(f"Verdicts a second on one core: {per_second:,.0f}; half of them within {median:.2f} ms")


def bar_table(by: str, found: Rows) -> Table:
    return table(
        f"The bar, by {by}",
        ("", "wanted", "tools", "held", "share"),
        (
            (x["what"], x["wanted"], str(x["tools"]), str(x["held"]), share(x["held"], x["tools"]))
            for x in found
        ),
    )


def tally_table(title: str, found: Rows) -> Table:
    return table(
        title,
        ("", "tools", "quarantined", "rejected", "not approved"),
        (
            (
                x["of"],
                str(x["tools"]),
                str(x["quarantined"]),
                str(x["rejected"]),
                share(x["not_approved"], x["tools"]),
            )
            for x in found
        ),
    )


def calibration_table(found: Rows) -> Table:
    return table(
        "Calibration of the model",
        ("probability", "opinions", "mean", "attacks among them"),
        (
            (
                f"{x['from']:.2f} to {x['to']:.2f}",
                str(x["tools"]),
                f"{x['mean']:.3f}",
                share(x["attacks"], x["tools"]),
            )
            for x in found
        ),
    )


def families_table(found: Mapping[str, Mapping[str, int]]) -> Table:
    return table(
        "Generated attacks of a family that the model never saw",
        ("family", "tools", "not approved"),
        ((name, str(x["tools"]), share(x["held"], x["tools"])) for name, x in found.items()),
    )


def scanners_table(found: Rows) -> Table:
    return table(
        "Scanners on the same tools (any finding counts)",
        ("scanner", "caught in descriptions", "false alarms in the wild"),
        (
            (x["scanner"], f"absent: {x['absent']}", "")
            if "absent" in x
            else (x["scanner"], share(x["caught"], x["attacks"]), share(x["false_alarms"], x["wild"]))
            for x in found
        ),
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        made.add_row(*row)
    return made


def share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"
