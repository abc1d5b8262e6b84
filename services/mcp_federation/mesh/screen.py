"""What `up` shows: what runs where, and what to try."""

import json
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mcp_federation.contract.messages import ServerState
from mcp_federation.mesh.readiness import RunningServer
from mcp_federation.mesh.terminal import safe_text
from mcp_federation.mesh.topology import Example, process_of

MAX_REFUSED: Final = 10
MAX_TOOLS: Final = 3
"""Tools of a server that are named; `mcp-federation discover` has all."""

_STYLES: Final = {"ready": "green", "starting": "yellow", "failed": "bold red", "stopped": "dim"}
_TOKEN = "$MCP_FEDERATION_TOKEN"  # noqa: S105 - the name of the variable that holds it


@dataclass(frozen=True)
class ReadyMesh:
    """A mesh as it is shown; `nats_address` holds no credentials."""

    edge_url: str
    nats_address: str
    state_dir: Path
    closed: bool
    pids: Mapping[str, int]
    servers: tuple[RunningServer, ...]
    example: Example
    seconds: float


def show_ready(console: Console, mesh: ReadyMesh) -> None:
    """Print what runs where, and three commands to try."""
    console.print()
    console.print(Text.assemble(("MCP Federation is ready", "bold green"), f" after {mesh.seconds:.1f} s"))
    console.print()
    console.print(_processes(mesh))
    # Beside the table: a long path would take the room of the others.
    console.print(Text.assemble(("  state       ", "bold"), _from_here(mesh.state_dir)), soft_wrap=True)
    console.print(_servers(mesh))
    for server in (server for server in mesh.servers if server.state.reason):
        name = safe_text(f"{server.state.name}@{server.node}")
        _print_line(console, f"  {name}: {safe_text(server.state.reason)}", "red")
    _show_refused(console, mesh)
    _show_examples(console, mesh)


def _show_refused(console: Console, mesh: ReadyMesh) -> None:
    refused = [(server.node, tool) for server in mesh.servers for tool in server.refused]
    for node, tool in refused[:MAX_REFUSED]:
        name = safe_text(f"{tool.name}@{node}")
        why = safe_text(tool.why.split("; ")[0])
        if tool.decision == "quarantined":
            _print_line(console, f"  {name} waits for a person: {why}", "yellow")
        else:
            _print_line(console, f"  {name} is not published: {why}", "red")
    if len(refused) > MAX_REFUSED:
        console.print(Text(f"  … and {len(refused) - MAX_REFUSED} more", "yellow"))
    if any(tool.decision == "quarantined" for _, tool in refused):
        words = [*program(), "governance", "review", *_state_flags(mesh.state_dir)]
        console.print(Text(f"  {shlex.join(words)}", "cyan"), soft_wrap=True)


def _print_line(console: Console, text: str, style: str) -> None:
    """Print a sentence: folded between words on a terminal, one whole line in a pipe."""
    console.print(Text(text, style), soft_wrap=not console.is_terminal)


def _processes(mesh: ReadyMesh) -> Table:
    access = "for callers with the token" if mesh.closed else "open: --token closes it"
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim")
    for name, where, note in (
        ("  edge", mesh.edge_url, f"pid {mesh.pids.get('edge', '-')}, {access}"),
        ("  nats", mesh.nats_address, f"pid {mesh.pids.get('nats', '-')}"),
        ("  governance", "", f"pid {mesh.pids.get('governance', '-')}"),
        ("  metrics", "", f"pid {mesh.pids.get('metrics', '-')}"),
    ):
        table.add_row(name, where, note)
    return table


def _servers(mesh: ReadyMesh) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=True)
    table.add_column("organisation", no_wrap=True)
    table.add_column("server", overflow="fold", min_width=8)
    table.add_column("tools", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("pid", no_wrap=True, justify="right")
    for node, servers in groupby(mesh.servers, attrgetter("node")):
        for place, server in enumerate(servers):
            first = place == 0
            table.add_row(
                node if first else "",
                safe_text(server.state.name),
                _tools(server),
                _state(server.state),
                str(mesh.pids.get(process_of(node), "-")) if first else "",
            )
    return table


def _tools(server: RunningServer) -> str:
    names = [safe_text(name).removeprefix(f"{server.state.name}.") for name in server.tools]
    if len(names) > MAX_TOOLS + 1:
        names[MAX_TOOLS:] = [f"{len(names) - MAX_TOOLS}\N{NO-BREAK SPACE}more"]
    return ", ".join(names) or "-"


def _state(state: ServerState) -> Text:
    return Text(state.state, _STYLES[state.state])


def _show_examples(console: Console, mesh: ReadyMesh) -> None:
    console.print()
    console.print(Text("Try", "bold"), Text(f"(with {_TOKEN} set)" if mesh.closed else "", "dim"))
    for command in examples(mesh.edge_url, mesh.example, mesh.state_dir, closed=mesh.closed):
        console.print()
        # Rich would fold a long line, and the shell would read two.
        console.print(Text("\n".join(f"  {line}" for line in command), "cyan"), soft_wrap=True)
    console.print()
    console.print(Text("Ctrl-C stops it all.", "dim"))


def examples(edge_url: str, example: Example, state_dir: Path, *, closed: bool) -> list[list[str]]:
    """Three commands to paste into a shell, each as its lines: discover, execute, call."""
    header = [f'-H "Authorization: Bearer {_TOKEN}"'] if closed else []
    body = json.dumps({"mcp_name": example.tool, "args": [], "kwargs": dict(example.arguments)})
    arguments = [f"{key}={value}" for key, value in example.arguments.items()]
    return [
        _lines([f"curl -s {edge_url}/discover", *header]),
        _lines(
            [
                f"curl -s {edge_url}/execute",
                *header,
                "-H 'Content-Type: application/json'",
                f"-d {shlex.quote(body)}",
            ]
        ),
        [shlex.join([*program(), "call", example.tool, *arguments, *_state_flags(state_dir)])],
    ]


def _state_flags(state_dir: Path) -> list[str]:
    default = state_dir == Path(".mcp-federation").resolve()
    return [] if default else ["--state-dir", str(state_dir)]


def _lines(parts: Iterable[str]) -> list[str]:
    *before, last = parts
    lines = [f"{part} \\" for part in before] + [last]
    return [lines[0], *(f"  {line}" for line in lines[1:])]


def program() -> list[str]:
    """How this program is started from here: by its name, its path, or as a module of this Python."""
    script = Path(sysconfig.get_path("scripts"), "mcp-federation")
    found = shutil.which("mcp-federation")
    if found and script.exists() and Path(found).samefile(script):
        return ["mcp-federation"]
    if script.exists():
        return [_from_here(script)]
    return [sys.executable, "-m", "mcp_federation.cli"]


def _from_here(path: Path) -> str:
    """The path as one would write it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
