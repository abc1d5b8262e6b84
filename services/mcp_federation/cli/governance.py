"""`mcp-federation governance review|explain|approve|reject|revoke`: what a security officer does."""

import getpass
import json
import sys
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcp_federation.bus.protocol import Bus
from mcp_federation.cli.client import run_on_bus
from mcp_federation.cli.findings import DECISION_STYLES, show_changes, show_findings
from mcp_federation.cli.output import print_json, print_row, print_text
from mcp_federation.contract.messages import Case, Finding, Registration, Ruling, encode
from mcp_federation.contract.names import federated_name
from mcp_federation.errors import Conflict, InvalidRequest
from mcp_federation.governance.checks.reading import read
from mcp_federation.governance.excerpts import excerpt
from mcp_federation.governance.operators import Operator, is_pending, standing
from mcp_federation.mesh.state import RunningMesh, StateDir
from mcp_federation.mesh.terminal import make_console, safe_text
from mcp_federation.settings import Settings
from mcp_federation.trust.keys import KEY_FILE, load_key, load_or_create_key, read_trusted_keys, trusted
from mcp_federation.trust.orders import Act


def run_review(*, node: str | None, everything: bool, as_json: bool, **overrides: Any) -> int:
    """List the tools that wait for a person, or all that governance knows; the exit code."""

    async def work(bus: Bus, mesh: RunningMesh, _: Settings) -> None:
        cases = [
            case
            for case in await _operator(bus, mesh).cases()
            if (everything or is_pending(case)) and node in (None, case.node)
        ]
        if as_json:
            print_json([_summary(case) for case in cases])
        else:
            _show_list(cases, everything)

    return run_on_bus(work, **overrides)


def run_explain(name: str, *, as_json: bool, **overrides: Any) -> int:
    """Show why a tool stands as it does, what changed, and what was found; the exit code."""

    async def work(bus: Bus, mesh: RunningMesh, _: Settings) -> None:
        case = await _operator(bus, mesh).case(name)
        if as_json:
            print_json(_summary(case))
        else:
            show_case(make_console(), case)

    return run_on_bus(work, **overrides)


def run_ruling(
    act: Act,
    name: str,
    *,
    reason: str,
    digest: str | None,
    yes: bool,
    key: Path | None,
    **overrides: Any,
) -> int:
    """Approve, reject or revoke; asks first, on a terminal, unless told not to. The exit code."""

    async def work(bus: Bus, mesh: RunningMesh, settings: Settings) -> None:
        operator = _operator(bus, mesh)
        case = await operator.case(name)
        signing = _signing_key(key, settings)
        console = make_console()
        _check_digest(case, act, digest)
        if not yes and digest is None:
            show_case(console, case)
            _ask(act, case)
        ruling = await operator.order(signing, act, case, by=getpass.getuser(), reason=reason)
        _show_ruling(console, ruling)

    return run_on_bus(work, **overrides)


def run_key(path: Path) -> int:
    """Make an operator's key, or read it, and print the public line that governance is to be told."""
    print_text(str(trusted(load_or_create_key(path).public_key())))
    return 0


def show_case(console: Console, case: Case) -> None:
    """Print all that a person needs to decide on a tool."""
    state = standing(case)
    head = Text(safe_text(federated_name(case.name, case.node)), "bold cyan")
    head.append("   ").append(state, DECISION_STYLES[state])
    console.print(head)
    about = f"{case.verdict.digest[:19]}…   asked {_ago(case.at)}"
    if case.server:
        about += f"   server {safe_text(case.server)}"
    console.print(Text(about, "dim"))
    _show_reasons(console, case)
    if case.verdict.changes:
        console.print(Text("\nWhat changed since it was approved", "bold"))
        show_changes(console, case.verdict.changes)
    if case.verdict.findings:
        console.print(Text("\nWhat was found", "bold"))
        show_findings(console, case.verdict.findings, _excerpts(case))
    if state == "quarantined":
        shown = federated_name(case.name, case.node)
        console.print(Text("\nDecide", "bold"))
        for act in ("approve", "reject"):
            console.print(Text(f"  mcp-federation governance {act} {safe_text(shown)!r} --reason '…'"))


def _excerpts(case: Case) -> dict[Finding, str]:
    """The words that each finding is about, where governance kept the text."""
    approved = case.approved if case.approved_digest == case.verdict.digest else None
    tool = case.pending or approved
    if tool is None:
        return {}
    text = Registration(node=case.node, tool=tool, digest=case.verdict.digest, server=case.server)
    reading = read(text)
    return {finding: excerpt(reading, finding) for finding in case.verdict.findings}


def _show_reasons(console: Console, case: Case) -> None:
    ruling = case.ruling
    reasons = [*case.verdict.reasons]
    if ruling is not None:
        because = f": {ruling.reason}" if ruling.reason else ""
        which = "this text" if ruling.digest == case.verdict.digest else "another text of it"
        reasons.append(f"{ruling.by} {ruling.decision} {which} {_ago(ruling.at)}{because}")
    if reasons:
        console.print(Text("\nWhy", "bold"))
    for reason in reasons:
        console.print(Text(f"  • {safe_text(reason)}"))


def _show_list(cases: list[Case], everything: bool) -> None:
    if not sys.stdout.isatty():
        for case in cases:
            name = federated_name(case.name, case.node)
            print_row(name, standing(case), case.verdict.digest, ",".join(_rules(case)))
        return
    console = make_console()
    if not cases:
        console.print("governance knows no tool yet" if everything else "nothing waits for a person")
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("tool", overflow="fold", style="cyan", ratio=2)
    table.add_column("state", no_wrap=True)
    table.add_column("asked", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=4)
    for case in cases:
        state = standing(case)
        table.add_row(
            safe_text(federated_name(case.name, case.node)),
            Text(state, DECISION_STYLES[state]),
            _ago(case.at),
            safe_text("; ".join(case.verdict.reasons) or ", ".join(_rules(case))),
        )
    console.print(table)
    if not everything:
        console.print("Look at one with `mcp-federation governance explain NAME`.", style="dim")


def _show_ruling(console: Console, ruling: Ruling) -> None:
    line = Text(safe_text(federated_name(ruling.name, ruling.node)), "bold cyan")
    line.append(" is ").append(ruling.decision, DECISION_STYLES[ruling.decision])
    then = {
        "approved": "its node publishes it now",
        "rejected": "its node was told",
        "revoked": "nobody in the mesh offers it any more",
    }
    console.print(line.append(f"; {then[ruling.decision]}"))


def _summary(case: Case) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(encode(case))
    verdict = fields["verdict"]
    return {
        "name": federated_name(case.name, case.node),
        "state": standing(case),
        "digest": case.verdict.digest,
        "at": case.at,
        **{key: verdict.get(key, []) for key in ("reasons", "findings", "changes")},
        "ruling": {key: value for key, value in fields["ruling"].items() if key != "seal"}
        if case.ruling
        else None,
        "approved_digest": case.approved_digest,
    }


def _ask(act: Act, case: Case) -> None:
    """Have the person confirm what they saw.

    Raises:
        Conflict: they do not.
        InvalidRequest: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise InvalidRequest("nobody is there to ask: name the text with --digest, or say --yes")
    answer = input(f"\n{act.capitalize()} {safe_text(federated_name(case.name, case.node))}? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise Conflict("nothing was decided")


def _check_digest(case: Case, act: Act, digest: str | None) -> None:
    meant = (case.approved_digest if act == "revoke" else None) or case.verdict.digest
    if digest is not None and not meant.startswith(digest):
        raise Conflict(f"the text is {meant} by now; look at it again")


def _signing_key(path: Path | None, settings: Settings) -> Ed25519PrivateKey:
    """The operator's own key, or governance's where its state directory is here.

    Raises:
        InvalidRequest: there is none.
    """
    if path is not None:
        return load_key(path)
    for candidate in (StateDir(settings.state_dir).governance / KEY_FILE, settings.state_dir / KEY_FILE):
        if candidate.exists():
            return load_key(candidate)
    raise InvalidRequest(
        "name the key to decide with: --key FILE (`mcp-federation governance key FILE` makes one)"
    )


def _operator(bus: Bus, mesh: RunningMesh) -> Operator:
    return Operator(bus, read_trusted_keys(mesh.trusted_keys))


def _rules(case: Case) -> list[str]:
    return sorted({finding.rule for finding in case.verdict.findings})


def _ago(at: float) -> str:
    seconds = max(0, int(time.time() - at))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
