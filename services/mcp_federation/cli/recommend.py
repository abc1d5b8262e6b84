"""`mcp-federation recommend`: the tools of the mesh that would do what a sentence asks for, best first."""

import sys
from typing import Any, Final

from rich import box
from rich.table import Table

from mcp_federation.bus.protocol import Bus
from mcp_federation.cli.client import run_on_bus
from mcp_federation.cli.discover import in_short
from mcp_federation.cli.output import add_names, print_json, print_row
from mcp_federation.engine.federated import FederatedRAGMCPEngine
from mcp_federation.mesh.state import RunningMesh
from mcp_federation.mesh.terminal import make_console, safe_text
from mcp_federation.settings import Settings

FIGURES: Final = ("relevance", "success_probability")


def run_recommend(request: str, objective: str, limit: int, as_json: bool, **overrides: Any) -> int:
    """Print the tools to use for `request`; the exit code."""

    async def work(_: Bus, mesh: RunningMesh, __: Settings) -> None:
        engine = FederatedRAGMCPEngine(
            enable_llm_validation=False, nodes=[mesh.nats_url], trusted_keys=mesh.trusted_keys
        )
        async with engine:
            found = await engine.recommend(request, objective, limit)
        if as_json:
            print_json(found)
        else:
            show_recommendations(found)

    return run_on_bus(work, **overrides)


def show_recommendations(found: list[dict[str, Any]]) -> None:
    """Print a table on a terminal, a tab-separated line a tool in a pipe."""
    if not sys.stdout.isatty():
        for tool in found:
            print_row(tool["name"], *(f"{tool[column]:.2f}" for column in FIGURES))
        return
    console = make_console()
    if not found:
        console.print("no tool of the mesh does that")
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    add_names(table, console, (tool["name"] for tool in found))
    table.add_column("relevance", justify="right")
    table.add_column("succeeds", justify="right")
    table.add_column("takes", justify="right")
    table.add_column("description", overflow="fold", ratio=1)
    for tool in found:
        others = len(tool["providers"]) - 1
        more = f" and {others} more" if others else ""
        table.add_row(
            safe_text(tool["name"]) + more,
            f"{tool['relevance']:.0%}",
            f"{tool['success_probability']:.0%}",
            _seconds(tool["latency_ms"]["p50"]),
            in_short(tool["description"]) if tool["available"] else "cannot be run now",
        )
    console.print(table)


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
