"""A mesh over NATS as a source of the engine's tools: its catalog, its performance, its execution."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
from yarl import URL

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Stored
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.client import FederationClient
from mcp_federation.contract.messages import Performance as PerformanceMessage
from mcp_federation.contract.messages import decode
from mcp_federation.contract.names import federated_name
from mcp_federation.contract.subjects import PERFORMANCE, PERFORMANCE_STREAM
from mcp_federation.engine.choice.pareto import MAX_CLAIM, Performance
from mcp_federation.engine.documents import marked, tool_spec
from mcp_federation.engine.sources import partner
from mcp_federation.engine.sources.source import OnChange
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.errors import DeadlineExceeded, InvalidRequest
from mcp_federation.estimation import evidence, mean_cost
from mcp_federation.logs import get_logger
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import TrustedKey
from mcp_federation.trust.policy import Policy

log = get_logger("engine")

PERFORMANCE_TIMEOUT = 1.0
"""Seconds that a load waits for measured performance, which a mesh may do without."""


@dataclass(frozen=True, slots=True)
class _Live:
    """What is open while a mesh is followed, and the event loop that it is of use in."""

    loop: asyncio.AbstractEventLoop
    stack: AsyncExitStack
    catalog: CatalogReplica
    client: FederationClient


class NatsMesh:
    """The tools of a mesh, by their federated names; those whose approval a trusted key signed.

    `imports` is an import policy of one's own over them.

    `load` reads the catalog once over a connection that it closes again; `start` follows it live.

    Raises:
        InvalidRequest: the URL is none, or no governance key is trusted.
    """

    def __init__(
        self,
        url: str,
        trusted_keys: Sequence[TrustedKey],
        *,
        imports: Policy | None = None,
        discover_timeout: float = partner.DISCOVER_TIMEOUT,
        execute_timeout: float = partner.EXECUTE_TIMEOUT,
    ) -> None:
        try:
            self._label = str(URL(url).with_user(None))
        except ValueError:
            raise InvalidRequest("the URL of a mesh does not parse") from None
        if not trusted_keys:
            raise InvalidRequest("a mesh needs the governance keys to trust: MCP_FEDERATION_TRUSTED_KEYS")
        self._url = url
        self._verifier = ApprovalVerifier(trusted_keys)
        self._imports = imports
        self._discover_timeout = discover_timeout
        self._execute_timeout = execute_timeout
        self._known: dict[str, tuple[CatalogTool, MCPToolSpec]] = {}
        self._performance: dict[str, Performance] = {}
        self._live: _Live | None = None

    @property
    def label(self) -> str:
        """The mesh's URL, without credentials."""
        return self._label

    async def load(self) -> None:
        """Read the catalog, and what is measured, once."""
        if self._live is not None and not self._live.loop.is_closed():
            return  # it is followed
        self._live = None
        async with AsyncExitStack() as stack:
            catalog, _ = await self._connect(stack, lambda: None)
            await catalog.note_absent()
            self._take(catalog)

    async def start(self, on_change: OnChange) -> None:
        """Follow the mesh from now on."""
        stack = AsyncExitStack()
        try:
            catalog, client = await self._connect(stack, on_change)
            await catalog.note_absent()
            catalog.on_change(on_change)
        except BaseException:
            await stack.aclose()
            raise
        self._live = _Live(asyncio.get_running_loop(), stack, catalog, client)
        on_change()

    async def stop(self) -> None:
        """Follow it no longer; its tools stay as they were last known."""
        live, self._live = self._live, None
        if live is not None and not live.loop.is_closed():
            await live.stack.aclose()

    def entries(self) -> Iterable[MCPToolSpec]:
        """The mesh's tools, as followed or as last loaded."""
        if self._live is not None:
            self._take(self._live.catalog)
        return [spec for _, spec in self._known.values()]

    def performance(self) -> Mapping[str, Performance]:
        """What the mesh's metrics say that they did not before."""
        fresh, self._performance = self._performance, {}
        return fresh

    async def execute(self, spec: MCPToolSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one of its tools over the bus."""
        async with AsyncExitStack() as stack:
            if self._live is not None and self._live.loop is asyncio.get_running_loop():
                client = self._live.client
            else:
                _, client = await self._connect(stack, lambda: None)
            name = str(spec.metadata["federated_name"])
            _, result = await client.execute_any(name, args, kwargs, timeout=self._execute_timeout)
            return result.value

    async def _connect(
        self, stack: AsyncExitStack, on_change: OnChange
    ) -> tuple[CatalogReplica, FederationClient]:
        """A replica that is complete, and a client on it; the stack closes both."""
        bus = await NatsBus.connect(
            self._url, name="mcp-federation-engine", timeout=max(self._discover_timeout, 0.1)
        )
        stack.push_async_callback(bus.close)

        async def on_performance(stored: Stored) -> None:
            message = decode(stored.payload, PerformanceMessage)
            PERFORMANCE.check(stored.subject, message.node, message.tool)
            self._measure(message)

        measured = await bus.follow(PERFORMANCE_STREAM, on_performance)
        catalog = CatalogReplica(bus, self._verifier, self._imports)
        stack.push_async_callback(catalog.stop)
        await catalog.start(self._discover_timeout)
        try:
            await measured.caught_up(PERFORMANCE_TIMEOUT)
        except DeadlineExceeded:
            log.info("performance_unknown", source=self.label)
        client = FederationClient(bus, catalog)
        stack.push_async_callback(client.close)
        return catalog, client

    def _measure(self, message: PerformanceMessage) -> None:
        if message.count:
            self._performance[federated_name(message.tool, message.node)] = _performance(message)

    def _take(self, catalog: CatalogReplica) -> None:
        fresh: dict[str, tuple[CatalogTool, MCPToolSpec]] = {}
        for tool in catalog.state.tools():
            available = catalog.state.is_available(tool.node)
            known = self._known.get(tool.federated_name)
            if known is None or known[0] is not tool:
                known = tool, self._spec(tool, available=available)
            elif known[1].metadata["available"] != available:
                known = tool, marked(known[1], available=available)
            fresh[tool.federated_name] = known
        self._known = fresh

    def _spec(self, tool: CatalogTool, *, available: bool) -> MCPToolSpec:
        return tool_spec(
            tool.name,
            tool.node,
            description=tool.tool.description,
            title=tool.tool.title,
            version=tool.tool.version,
            server=tool.entry.server,
            input_schema=msgspec.json.decode(tool.tool.input_schema),
            executable=tool.executable,
            available=available,
            source=self.label,
        )


def _performance(message: PerformanceMessage) -> Performance:
    observed = min(message.observed, message.count)
    callers = len(message.recent.keys() - {message.node})
    return Performance(
        # The provider reports what callers observed as well: the greater of the two is how many there were.
        count=max(min(observed, callers * MAX_CLAIM), min(message.count - observed, MAX_CLAIM)),
        success_rate=min(1.0, message.successes / message.count),
        latency_ms=message.latency_p50 or 0.0,
        mean_cost=mean_cost([evidence(message.node, message.recent)]),
        provider=message.node,
        reports=message.recent,
    )
