"""`mcp-federation discover`: the tools of the mesh, for people and for programs."""

import json
import sys
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from mcp_federation.catalog.state import CatalogTool
from mcp_federation.cli.client import run_client
from mcp_federation.cli.output import add_names, print_json, print_row
from mcp_federation.client import FederationClient
from mcp_federation.mesh.terminal import make_console, safe_text

HEARD_TIMEOUT: Final = 2.5
"""Seconds to wait for a sign of every node: one heartbeat, and a little."""

DESCRIPTION_WIDTH: Final = 160
"""Characters of a description in a table; `--json` and a pipe have all of it."""

_STYLES: Final = {"ready": "green", "described": "yellow", "unavailable": "red"}


def run_discover(query: str, as_json: bool, **overrides: Any) -> int:
    """Print the tools whose name or description has every word of `query`; the exit code."""

    async def work(client: FederationClient) -> None:
        await hear_nodes(client)
        if why := unbelieved(client):
            print(f"mcp-federation: {why}", file=sys.stderr)  # noqa: T201 - for the person who asked
        found = [tool for tool in client.discover() if matches(tool, query)]
        if as_json:
            print_json([summary(client, tool) for tool in found])
        else:
            show_tools(client, found, query)

    return run_client(work, **overrides)


def unbelieved(client: FederationClient) -> str:
    """Why, where tools are published, and none of them is believed."""
    refused = [why for node in client.catalog.state.nodes.values() for why in node.unverified().values()]
    if not refused or client.discover():
        return ""
    return f"none of the {len(refused)} published tools is believed here: {refused[0]}"


async def hear_nodes(client: FederationClient) -> None:
    """Wait until each node was heard of, so that those that are gone are not shown as there."""
    nodes = client.catalog.state.nodes
    names = {tool.node for tool in client.discover()}
    if not await client.catalog.wait_until(
        lambda: all(nodes[name].instances for name in names), HEARD_TIMEOUT
    ):
        for name in names:
            if not nodes[name].instances:
                client.catalog.note_unavailable(name)


def matches(tool: CatalogTool, query: str) -> bool:
    """Whether the tool's federated name, title or description has every word of the query."""
    text = f"{tool.federated_name} {tool.tool.title or ''} {tool.tool.description}".casefold()
    return all(word in text for word in query.casefold().split())


def summary(client: FederationClient, tool: CatalogTool) -> dict[str, Any]:
    """The tool as JSON."""
    return {
        "name": tool.federated_name,
        "description": tool.tool.description,
        "version": tool.tool.version,
        "state": state_of(client, tool),
        "input_schema": json.loads(bytes(tool.tool.input_schema)),
        "digest": tool.entry.digest,
        "assessment": json.loads(bytes(tool.entry.assessment)) if tool.entry.assessment is not None else None,
    }


def state_of(client: FederationClient, tool: CatalogTool) -> str:
    """`ready`, `described` (nothing runs it) or `unavailable` (its node is silent)."""
    if not tool.executable:
        return "described"
    return "ready" if client.catalog.state.is_available(tool.node) else "unavailable"


def show_tools(client: FederationClient, tools: list[CatalogTool], query: str) -> None:
    """Print what a query found: a table on a terminal, a tab-separated line a tool in a pipe."""
    if not sys.stdout.isatty():
        for tool in tools:
            print_row(tool.federated_name, tool.tool.version, state_of(client, tool), tool.tool.description)
        return
    console = make_console()
    if not tools:
        if not unbelieved(client):
            console.print(f"no tool matches {query!r}" if query else "the mesh has no tools yet")
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    add_names(table, console, (tool.federated_name for tool in tools))
    table.add_column("state", no_wrap=True)
    table.add_column("description and arguments", overflow="fold", ratio=1)
    for tool in tools:
        state = state_of(client, tool)
        table.add_row(
            safe_text(tool.federated_name),
            Text(state, _STYLES[state]),
            Text("\n").join([Text(in_short(tool.tool.description)), *arguments(tool)]),
        )
    console.print(table)


def arguments(tool: CatalogTool) -> list[Text]:
    """A line with the names of the tool's arguments, as `call` takes them; none where it takes none."""
    names = " ".join(f"{name}=" for name in tool.tool.parameters)
    return [Text(in_short(names), "dim")] if names else []


def in_short(description: str) -> str:
    """The first paragraph of a description, on one line, as far as a table has room for it."""
    text = " ".join(description.strip().split("\n\n")[0].split())
    return safe_text(text if len(text) <= DESCRIPTION_WIDTH else f"{text[: DESCRIPTION_WIDTH - 1]}…")
