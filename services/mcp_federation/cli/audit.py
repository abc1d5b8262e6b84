"""`mcp-federation audit`: the trail of what governance and its operators decided, and whether it is whole."""

import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcp_federation.bus.protocol import Bus, Stored
from mcp_federation.cli.client import run_on_bus
from mcp_federation.cli.findings import DECISION_STYLES
from mcp_federation.cli.output import add_names, print_json, print_row
from mcp_federation.contract.messages import AuditRecord, decode, encode
from mcp_federation.contract.names import federated_name
from mcp_federation.contract.subjects import AUDIT_STREAM
from mcp_federation.errors import FederationError, InvalidRequest
from mcp_federation.governance.operators import replay
from mcp_federation.governance.trail_check import Anchor, TrailCheck
from mcp_federation.mesh.state import RunningMesh
from mcp_federation.mesh.terminal import make_console, safe_text
from mcp_federation.settings import Settings
from mcp_federation.trust.keys import read_trusted_keys

REPLAY_TIMEOUT: Final = 120.0
_AGO: Final = re.compile(r"(\d+)\s*(s|min|h|d)")
_SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Query:
    """Which records are asked for: a node's, of tools so named, since a time, the last ones."""

    node: str | None = None
    tool: str | None = None
    since: float = 0.0
    limit: int | None = None

    def has(self, record: AuditRecord) -> bool:
        """Whether a record is asked for."""
        return (
            self.node in (None, record.node)
            and (self.tool is None or self.tool in federated_name(record.name, record.node))
            and record.at >= self.since
        )


def run_audit(query: Query, *, verify: bool, anchor: Anchor | None, as_json: bool, **overrides: Any) -> int:
    """Print the records of a query; with `verify`, check the whole trail and fail where it is not sound."""

    async def work(bus: Bus, mesh: RunningMesh, _: Settings) -> None:
        check = TrailCheck(read_trusted_keys(mesh.trusted_keys))
        records: list[AuditRecord] = []

        async def take(stored: Stored) -> None:
            if verify:
                check.add(stored)
            record = decode(stored.payload, AuditRecord)
            if query.has(record):
                records.append(record)

        await replay(bus, AUDIT_STREAM, take, REPLAY_TIMEOUT)
        if anchor is not None:
            check.check_anchor(anchor)
        _show(records[-query.limit :] if query.limit else records, check if verify else None, as_json)
        if check.faults:
            raise FederationError(f"the audit trail is not sound: {len(check.faults)} faults")

    return run_on_bus(work, **overrides)


def parse_since(text: str) -> float:
    """The time that `2h`, `3d`, `30min` ago was, or an ISO date, in Unix seconds.

    Raises:
        InvalidRequest: it is neither.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(f"{text!r} is no time: say 30min, 2h, 3d or 2026-11-22") from None


def parse_anchor(text: str) -> Anchor:
    """What `audit --verify` printed.

    Raises:
        InvalidRequest: it did not print that.
    """
    sequence, _, chain = text.partition(":")
    if not sequence.isdecimal() or not re.fullmatch(r"[0-9a-f]{64}", chain):
        raise InvalidRequest("an anchor is NUMBER:HASH, as `audit --verify` prints it")
    return Anchor(int(sequence), chain)


def outcome(record: AuditRecord) -> str:
    """What was decided."""
    if record.ruling is not None:
        return record.ruling.decision
    return record.verdict.decision if record.verdict is not None else ""


def _show(records: list[AuditRecord], check: TrailCheck | None, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {"records": [_plain(record) for record in records]}
        if check is not None:
            faults = [fault._asdict() for fault in check.faults]
            shown["check"] = {"faults": faults, "head": str(check.head), "loose": check.loose}
        print_json(shown)
        return
    if sys.stdout.isatty():
        console = make_console()
        _show_table(console, records)
        if check is not None:
            _show_check(console, check)
        return
    for record in records:
        name = federated_name(record.name, record.node)
        print_row(_time(record.at), name, outcome(record), _who(record), _why(record))
    if check is not None:
        _show_check(make_console(sys.stderr), check)


def _show_table(console: Console, records: list[AuditRecord]) -> None:
    if not records:
        console.print("nothing of that is on record")
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("when", no_wrap=True)
    add_names(table, console, (federated_name(record.name, record.node) for record in records))
    table.add_column("decision", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for record in records:
        decision = outcome(record)
        table.add_row(
            f"{datetime.fromtimestamp(record.at):%Y-%m-%d %H:%M}",
            safe_text(federated_name(record.name, record.node)),
            Text(decision, DECISION_STYLES.get(decision, "")),
            safe_text(_by(record) + _why(record)),
        )
    console.print(table)


def _show_check(console: Console, check: TrailCheck) -> None:
    for fault in check.faults:
        console.print(Text(f"record {fault.sequence}: {safe_text(fault.why)}", "bold red"))
    if not check.faults and not check.head.sequence:
        console.print("the trail is empty: nothing was decided yet, or all of it is gone (--anchor tells)")
    elif not check.faults:
        console.print(Text(f"the trail is whole: {check.head.sequence} records, each signed", "bold green"))
        if check.loose:
            console.print(f"the last {check.loose} are not vouched for by a later record yet")
        console.print(f"note this, and check it the next time: --anchor {check.head}", soft_wrap=True)


def _plain(record: AuditRecord) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(encode(record))
    return {"time": _time(record.at), "tool": federated_name(record.name, record.node), **fields}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def _who(record: AuditRecord) -> str:
    if record.ruling is not None:
        return record.ruling.by
    return (record.verdict.reviewer if record.verdict else "") or "policy"


def _by(record: AuditRecord) -> str:
    """The person who decided, for in front of the reason; nothing where it was policy."""
    return "" if (who := _who(record)) == "policy" else f"{who}: "


def _why(record: AuditRecord) -> str:
    if record.ruling is not None:
        return record.ruling.reason
    verdict = record.verdict
    if verdict is None:
        return ""
    return "; ".join(verdict.reasons) or ", ".join(sorted({finding.rule for finding in verdict.findings}))
