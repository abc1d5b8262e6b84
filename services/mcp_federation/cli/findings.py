"""Shows what governance found, for people: what is wrong, where, and what to do."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from mcp_federation.contract.messages import SEVERITIES, Change, Finding, Severity
from mcp_federation.mesh.terminal import safe_text

SEVERITY_STYLES: Final[dict[Severity, str]] = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "bold yellow",
    "low": "cyan",
    "info": "dim",
}
DECISION_STYLES: Final = {
    "approved": "bold green",
    "quarantined": "bold yellow",
    "rejected": "bold red",
    "revoked": "bold red",
}
_INDENT: Final = 11


def show_findings(
    console: Console, findings: Iterable[Finding], excerpts: Mapping[Finding, str] | None = None
) -> None:
    """Print findings, the gravest first, each with the words it is about; those of one rule together."""
    groups: dict[tuple[str, Severity, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity)):
        groups.setdefault((finding.rule, finding.severity, finding.remedy), []).append(finding)
    for (rule, severity, remedy), group in groups.items():
        head = Text(f"  {severity.upper():<{_INDENT - 2}}", SEVERITY_STYLES[severity])
        head.append(safe_text(rule), "bold")
        console.print(head)
        for finding in group:
            _show_place(console, finding, (excerpts or {}).get(finding, ""))
        console.print(Padding(Text(f"▸ {safe_text(remedy)}", "green"), (0, 0, 0, _INDENT), expand=False))


def _show_place(console: Console, finding: Finding, excerpt: str) -> None:
    line = Text()
    if finding.where:
        line.append(f"{safe_text(finding.where)}: ", "magenta")
    line.append(safe_text(finding.why))
    console.print(Padding(line, (0, 0, 0, _INDENT), expand=False))
    if excerpt:
        console.print(
            Padding(Text(f"“{safe_text(excerpt)}”", "italic dim"), (0, 0, 0, _INDENT + 2), expand=False)
        )


def show_changes(console: Console, changes: Iterable[Change]) -> None:
    """Print a difference, place by place."""
    for change in changes:
        console.print(Padding(Text(safe_text(change.where), "magenta"), (0, 0, 0, 2), expand=False))
        for sign, text, style in (("-", change.before, "red"), ("+", change.after, "green")):
            if text is not None:
                shown = textwrap.indent(safe_text(text), "  ").lstrip()
                console.print(Padding(Text(f"{sign} {shown}", style), (0, 0, 0, 4), expand=False))
