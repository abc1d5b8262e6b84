"""What a replica knows, as plain data: what each node publishes, what of it is believed, who is there.

Pure but for the wall clock, against which approvals expire.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from mcp_federation.contract.messages import SERVER_DOWN, CatalogEntry, Presence, Tool
from mcp_federation.contract.names import federated_name
from mcp_federation.trust.signing import LEEWAY_SECONDS


class DigestSet:
    """The digests that a node publishes, with a hash over them that costs nothing to keep up to date.

    The hash is the XOR of SHA-256 over each `name NUL digest`: it tells replicas whether they missed
    something. What is published is proven by approvals, not by this.
    """

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        self._xor = 0

    def put(self, name: str, digest: str) -> None:
        """Add or replace a tool."""
        self.drop(name)
        self._digests[name] = digest
        self._xor ^= _word(name, digest)

    def drop(self, name: str) -> None:
        """Remove a tool, where it is there."""
        digest = self._digests.pop(name, None)
        if digest is not None:
            self._xor ^= _word(name, digest)

    def get(self, name: str) -> str | None:
        """The digest under that name."""
        return self._digests.get(name)

    @property
    def hash(self) -> str:
        """64 hex digits."""
        return f"{self._xor:064x}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)


def _word(name: str, digest: str) -> int:
    return int.from_bytes(sha256(f"{name}\0{digest}".encode()).digest())


@dataclass(frozen=True, slots=True)
class CatalogTool:
    """A catalog entry whose approval was verified: `issued` and `expires` are its, in Unix seconds."""

    entry: CatalogEntry
    expires: float
    issued: float = 0.0

    @property
    def tool(self) -> Tool:
        """All that is visible of it."""
        return self.entry.tool

    @property
    def node(self) -> str:
        """The node that publishes it."""
        return self.entry.node

    @property
    def name(self) -> str:
        """Its local name."""
        return self.entry.tool.name

    @property
    def federated_name(self) -> str:
        """`localname@node`."""
        return federated_name(self.name, self.node)

    @property
    def executable(self) -> bool:
        """Whether something runs it; else it is described only."""
        return self.entry.execute_subject is not None


@dataclass(slots=True)
class NodeState:
    """One node as this replica sees it.

    `newest` has the approved text of each name that was seen last, also when it is gone; `revoked` until
    when (Unix seconds) approvals of a name are void. `down` are the names that were withdrawn for as long as
    their MCP server is.
    """

    name: str
    published: DigestSet = field(default_factory=DigestSet)
    tools: dict[str, CatalogTool] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    instances: dict[str, Presence] = field(default_factory=dict)
    available: bool = True
    refused: dict[str, str] = field(default_factory=dict)
    newest: dict[str, CatalogTool] = field(default_factory=dict)
    revoked: dict[str, float] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    mismatches: int = 0

    def unverified(self) -> dict[str, str]:
        """Why entries of the node are not believed, by name: refused as they came, or expired since."""
        now = time.time()
        expired = (name for name, tool in self.tools.items() if tool.expires <= now)
        return {**self.refused, **dict.fromkeys(expired, "its approval has expired, and was not renewed")}


def _why_not(node: NodeState, tool: CatalogTool) -> str:
    """Why an approval that is genuine holds no more; empty where it does."""
    if tool.issued <= node.revoked.get(tool.name, -1.0):
        return "its approval was revoked"
    newest = node.newest.get(tool.name)
    # Whoever may publish can bring back an older text whose approval has not expired.
    if (
        newest is not None
        and newest.entry.digest != tool.entry.digest
        and tool.issued < newest.issued - LEEWAY_SECONDS
    ):
        return "a later text of the tool was approved since"
    return ""


class CatalogState:
    """All nodes and their tools, with an index by local name."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self._by_name: dict[str, dict[str, CatalogTool]] = {}

    def node(self, name: str) -> NodeState:
        """The state of a node, new where it was not heard of yet."""
        return self.nodes.setdefault(name, NodeState(name))

    def publish(self, entry: CatalogEntry, sequence: int, verified: CatalogTool | str) -> bool:
        """Take an entry in: verified, or refused for the reason given. False where it is outdated."""
        node, name = self.node(entry.node), entry.tool.name
        if sequence < node.sequences.get(name, 0):
            return False
        self._remove(node, name)
        node.sequences[name] = sequence
        node.published.put(name, entry.digest)
        if isinstance(verified, CatalogTool):
            verified = _why_not(node, verified) or verified
        if isinstance(verified, CatalogTool):
            node.tools[name] = node.newest[name] = verified
            self._by_name.setdefault(name, {})[node.name] = verified
        else:
            node.refused[name] = verified
        return True

    def revoke(self, node_name: str, name: str, before: float) -> bool:
        """Void all approvals of a tool that were issued until then (Unix seconds); whether that is news."""
        node = self.node(node_name)
        if before <= node.revoked.get(name, 0.0):
            return False
        node.revoked[name] = before
        tool = node.tools.get(name)
        if tool is not None and (why := _why_not(node, tool)):
            self._stop_offering(node, name)
            node.refused[name] = why
        return True

    def withdraw(self, node_name: str, name: str, sequence: int, reason: str = "") -> bool:
        """Take a tool out. False where a later entry is known."""
        node = self.node(node_name)
        if sequence < node.sequences.get(name, 0):
            return False
        self._remove(node, name)
        if reason == SERVER_DOWN and name in node.newest:
            node.down.add(name)
        node.sequences[name] = sequence
        return True

    def begin_anew(self) -> None:
        """The catalog's stream began anew: whatever comes from now on is later than all that is known."""
        for node in self.nodes.values():
            node.sequences = dict.fromkeys(node.sequences, 0)

    def retain(self, node_name: str, names: set[str]) -> None:
        """Forget all tools of a node but those."""
        node = self.node(node_name)
        for name in set(node.published) - names:
            self._remove(node, name)

    def _remove(self, node: NodeState, name: str) -> None:
        node.published.drop(name)
        node.refused.pop(name, None)
        node.down.discard(name)
        self._stop_offering(node, name)

    def _stop_offering(self, node: NodeState, name: str) -> None:
        if node.tools.pop(name, None) is not None:
            providers = self._by_name[name]
            del providers[node.name]
            if not providers:
                del self._by_name[name]

    def get(self, node: str, name: str) -> CatalogTool | None:
        """The tool of that local name on that node, while its approval holds."""
        state = self.nodes.get(node)
        tool = state.tools.get(name) if state else None
        return tool if tool and tool.expires > time.time() else None

    def providers(self, name: str) -> list[CatalogTool]:
        """Every tool of that local name, on whatever node."""
        now = time.time()
        return [tool for tool in self._by_name.get(name, {}).values() if tool.expires > now]

    def down(self, name: str, node: str | None = None) -> list[CatalogTool]:
        """The tools of that local name, on that node or on any, which only lack their MCP server."""
        nodes = self.nodes.values() if node is None else [self.node(node)] if node in self.nodes else []
        tools = [state.newest[name] for state in nodes if name in state.down]
        now = time.time()
        return [tool for tool in tools if tool.expires > now and not _why_not(self.node(tool.node), tool)]

    def why_not(self, name: str, node: str | None = None) -> str | None:
        """Why a tool of that local name, on that node or on any, is published and not believed."""
        nodes = self.nodes.values() if node is None else [self.node(node)] if node in self.nodes else []
        return next((why for state in nodes if (why := state.unverified().get(name))), None)

    def tools(self) -> Iterator[CatalogTool]:
        """Every tool whose approval holds."""
        now = time.time()
        return (tool for node in self.nodes.values() for tool in node.tools.values() if tool.expires > now)

    def instances(self, node: str) -> tuple[str, ...]:
        """The ids of the node's processes that were heard of lately."""
        state = self.nodes.get(node)
        return tuple(state.instances) if state else ()

    def is_available(self, node: str) -> bool:
        """Whether the node was heard of lately."""
        state = self.nodes.get(node)
        return state is not None and state.available
