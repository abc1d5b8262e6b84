"""`mcp-federation scan`: checks MCP servers as governance would, without a mesh; for a publisher's own CI."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from mcp_federation.cli.findings import DECISION_STYLES, show_findings
from mcp_federation.cli.output import print_json
from mcp_federation.cli.sarif import Result, sarif
from mcp_federation.cli.server_texts import server_findings
from mcp_federation.cli.targets import Probe, Scanned, read_target
from mcp_federation.contract.messages import SEVERITIES, Decision, Finding, Registration, Severity, Verdict
from mcp_federation.errors import FederationError, InvalidRequest
from mcp_federation.governance.checks.context import CatalogView, Published
from mcp_federation.governance.checks.reading import read
from mcp_federation.governance.excerpts import excerpt
from mcp_federation.governance.verdict import decide, judge
from mcp_federation.logs import configure_logs
from mcp_federation.mesh.terminal import make_console, safe_text
from mcp_federation.node.tools import LocalTool
from mcp_federation.trust.policy import Policy
from mcp_federation.trust.policy_file import load_policy

FOUND: Final = 1
FAILED: Final = 2
"""The exit codes: something is wrong with a tool, and nothing could be scanned."""

MANY: Final = 500
_NO_LABEL = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Checked:
    """A tool with its verdict, and the words that each finding is about."""

    tool: LocalTool
    verdict: Verdict
    excerpts: dict[Finding, str]


@dataclass(frozen=True)
class Report:
    """All that was scanned: each server with what is wrong with itself, and its tools."""

    policy: Policy
    servers: list[tuple[Scanned, list[Checked]]]
    seconds: float

    @property
    def findings(self) -> Iterator[Finding]:
        """All findings."""
        for server, tools in self.servers:
            yield from server.findings
            for checked in tools:
                yield from checked.verdict.findings

    def count(self, decision: Decision) -> int:
        """How many tools the policy would decide so on."""
        return sum(checked.verdict.decision == decision for _, tools in self.servers for checked in tools)

    def fails(self, fail_on: Severity | None) -> bool:
        """Whether a finding is that severe; without a severity, whether the policy would not approve all."""
        if fail_on is not None:
            grave = SEVERITIES[SEVERITIES.index(fail_on) :]
            return any(finding.severity in grave for finding in self.findings)
        bad = any(decide(server.findings, self.policy) != "approved" for server, _ in self.servers)
        return bad or self.count("quarantined") + self.count("rejected") > 0


def run_scan(
    words: Sequence[str],
    *,
    policy: str,
    probe: Probe,
    fail_on: Severity | None,
    sarif_file: Path | None,
    as_json: bool,
) -> int:
    """Scan, print what was found, and say by the exit code whether that is too much."""
    configure_logs("error")
    console = make_console()
    try:
        chosen = load_policy(policy)
        began = time.perf_counter()
        with console.status("asking the servers …") if sys.stdout.isatty() and not as_json else nullcontext():
            scanned = asyncio.run(read_target(words, probe))
        servers = _judge(scanned, chosen, None if as_json else console)
        report = Report(chosen, servers, time.perf_counter() - began)
        if sarif_file is not None:
            _write(sarif_file, sarif(_results(report)))
    except FederationError as error:
        print(f"mcp-federation: {error.message}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return FAILED
    if as_json:
        print_json(_plain(report))
    else:
        show_report(console, report)
    if not any(server.is_usable for server in scanned):
        return FAILED
    return FOUND if report.fails(fail_on) else 0


def _judge(
    scanned: list[Scanned], policy: Policy, console: Console | None
) -> list[tuple[Scanned, list[Checked]]]:
    total = sum(len(server.tools) for server in scanned)
    catalog = CatalogView()
    shown = console is not None and total >= MANY and sys.stdout.isatty()
    servers = []
    with Progress(console=console, disable=not shown, transient=True) as progress:
        task = progress.add_task("checking", total=total)
        for server in scanned:
            node = _NO_LABEL.sub("-", server.name.lower()).strip("-")[:63].strip("-") or "server"
            checked = []
            server.findings += server_findings(server, node, catalog)
            for tool in server.tools:
                checked.append(_check(tool, node, catalog, policy))
                progress.advance(task)
            servers.append((server, checked))
            # After all of its own: a server's tools may resemble each other.
            for tool in server.tools:
                catalog.put(_published(tool, node))
    return servers


def _published(tool: LocalTool, node: str) -> Published:
    return Published(
        node=node,
        name=tool.tool.name,
        server=tool.server,
        title=tool.tool.title or "",
        description=tool.tool.description,
    )


def _check(tool: LocalTool, node: str, catalog: CatalogView, policy: Policy) -> Checked:
    registration = Registration(node=node, tool=tool.tool, digest=tool.digest, server=tool.server)
    verdict = judge(registration, catalog, policy=policy)
    reading = read(registration)
    return Checked(tool, verdict, {finding: excerpt(reading, finding) for finding in verdict.findings})


def show_report(console: Console, report: Report) -> None:
    """Print each tool that something is wrong with, and what is; the others in a line."""
    for server, tools in report.servers:
        console.print(
            Text(f"{safe_text(server.name)}", "bold").append(f"  {safe_text(server.origin)}", "dim")
        )
        if server.findings:
            show_findings(console, server.findings)
        for checked in tools:
            if checked.verdict.decision != "approved":
                _show_tool(console, checked)
        noted = [checked for checked in tools if checked.verdict.decision == "approved"]
        _show_fine(console, noted)
    _show_sum(console, report)


def _show_tool(console: Console, checked: Checked) -> None:
    decision = checked.verdict.decision
    line = Text("\n✗ ", DECISION_STYLES[decision]).append(safe_text(checked.tool.tool.name), "bold cyan")
    console.print(line.append("  would be ").append(decision, DECISION_STYLES[decision]))
    show_findings(console, checked.verdict.findings, checked.excerpts)


def _show_fine(console: Console, tools: list[Checked]) -> None:
    if not tools:
        return
    notes = sum(len(checked.verdict.findings) for checked in tools)
    hint = f", with {notes} smaller notes (--json shows them)" if notes else ""
    names = ", ".join(safe_text(checked.tool.tool.name) for checked in tools[:3])
    more = ", …" if len(tools) > 3 else ""
    console.print(Text(f"\n✓ {len(tools)} fine{hint}: ", "green").append(f"{names}{more}", "dim"))


def _show_sum(console: Console, report: Report) -> None:
    counts = [f"{report.count(decision)} {decision}" for decision in ("approved", "quarantined", "rejected")]
    total = sum(len(tools) for _, tools in report.servers)
    console.print(
        Text(
            f"\n{total:,} tool{'s' * (total != 1)}: {', '.join(counts)} "
            f"by the policy {report.policy.name!r}, ",
            "bold",
        ).append(f"{report.seconds:.1f} s", "dim")
    )


def _results(report: Report) -> Iterable[Result]:
    for server, tools in report.servers:
        for finding in server.findings:
            yield Result(finding, server.name, "", server.origin, server.file)
        for checked in tools:
            for finding in checked.verdict.findings:
                name = checked.tool.remote_name
                text = checked.excerpts[finding]
                yield Result(finding, server.name, name, server.origin, server.file, text)


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}") from None


def _plain(report: Report) -> dict[str, Any]:
    return {
        "policy": report.policy.name,
        "servers": [
            {
                "name": server.name,
                "origin": server.origin,
                "findings": msgspec.to_builtins(server.findings),
                "tools": [
                    {
                        "name": checked.tool.tool.name,
                        "digest": checked.tool.digest,
                        "decision": checked.verdict.decision,
                        "reasons": checked.verdict.reasons,
                        "findings": [
                            {**msgspec.to_builtins(finding), "excerpt": checked.excerpts[finding]}
                            for finding in checked.verdict.findings
                        ],
                    }
                    for checked in tools
                ],
            }
            for server, tools in report.servers
        ],
    }
