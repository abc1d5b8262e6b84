"""When a mesh that was just started is ready, and what runs in it then."""

import asyncio
import http.client
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.catalog.state import CatalogState, NodeState
from mcp_federation.contract.messages import Presence, RefusedTool, ServerState
from mcp_federation.errors import DeadlineExceeded
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import parse_trusted_key

READY_TIMEOUT: Final = 60.0
PROBE_TIMEOUT: Final = 5.0
_LOOK_AGAIN: Final = 0.05


@dataclass(frozen=True)
class RunningServer:
    """An MCP server of a node, with the local names of its published tools, and those that are not."""

    node: str
    state: ServerState
    tools: tuple[str, ...]
    refused: tuple[RefusedTool, ...] = ()


async def wait_for_file(path: Path, timeout: float) -> str:
    """The text of a file that another process is about to write.

    Raises:
        DeadlineExceeded: it is not there within `timeout` seconds.
    """
    await _until(path.exists, timeout, f"{path.name} was not written")
    return (await asyncio.to_thread(path.read_text)).strip()


async def wait_for_edge(url: str, timeout: float = READY_TIMEOUT) -> None:
    """Wait until the edge says that it is ready.

    Raises:
        DeadlineExceeded: it does not within `timeout` seconds.
    """
    await _until(lambda: _answers_ready(url), timeout, "the edge did not become ready")


async def wait_for_nodes(
    bus: Bus, trusted_key: str, nodes: Iterable[str], timeout: float = READY_TIMEOUT
) -> list[RunningServer]:
    """Wait until every node is present, its servers are up or have failed, and its tools are published.

    A server that is still starting when the time is over is returned as it is.

    Raises:
        DeadlineExceeded: a node is not present within `timeout` seconds, or there is no catalog.
    """
    names = tuple(nodes)
    replica = CatalogReplica(bus, ApprovalVerifier([parse_trusted_key(trusted_key)]))
    try:
        await replica.start(timeout)
        await replica.wait_until(lambda: all(_settled(replica.state, name) for name in names), timeout)
        silent = [name for name in names if not _presences(replica.state, name)]
        if silent:
            raise DeadlineExceeded(
                f"nothing is heard of {', '.join(silent)} after {timeout:g} s: the log says why"
            )
        return [server for name in names for server in _servers(replica.state.node(name))]
    finally:
        await replica.stop()


def _presences(state: CatalogState, name: str) -> list[Presence]:
    node = state.nodes.get(name)
    return list(node.instances.values()) if node else []


def _settled(state: CatalogState, name: str) -> bool:
    """Whether each server of the node is up with its tools in the catalog, or has failed."""
    presences = _presences(state, name)
    if not presences:
        return False
    presence = presences[-1]
    if any(server.state == "starting" for server in presence.servers):
        return False
    # Counted in the catalog: what the presence says of it is as old as the last heartbeat.
    published = sum(len(server.tools) for server in _servers(state.node(name)))
    return published + len(presence.refused) >= sum(server.tools for server in presence.servers)


def _servers(node: NodeState) -> list[RunningServer]:
    presence = list(node.instances.values())[-1]
    return [
        RunningServer(
            node.name,
            server,
            tuple(sorted(name for name, tool in node.tools.items() if tool.entry.server == server.name)),
            tuple(tool for tool in presence.refused if _is_of(tool, server.name)),
        )
        for server in presence.servers
    ]


def _is_of(tool: RefusedTool, server: str) -> bool:
    return tool.name == server or tool.name.startswith(f"{server}.")


def _answers_ready(url: str) -> bool:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def _until(condition: Callable[[], bool], timeout: float, otherwise: str) -> None:
    """Wait for what gives no event; the condition may block for a moment."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not await asyncio.to_thread(condition):
        if loop.time() >= deadline:
            raise DeadlineExceeded(f"{otherwise} within {timeout:g} s: the logs say why")
        await asyncio.sleep(_LOOK_AGAIN)
