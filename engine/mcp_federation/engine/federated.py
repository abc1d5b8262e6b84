"""The engine over several organisations' tools: it lists them beside the local ones and calls them."""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from mcp_federation.engine.choice.pareto import Performance
from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.rag import RAGMCPEngine
from mcp_federation.engine.retrieval import Retriever
from mcp_federation.engine.sources import partner
from mcp_federation.engine.sources.mesh import NatsMesh
from mcp_federation.engine.sources.rest import RestPartner
from mcp_federation.engine.sources.source import CatalogSource
from mcp_federation.engine.sources.upkeep import Upkeep
from mcp_federation.engine.sync import run_in_thread
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.engine.validation import Scorer
from mcp_federation.errors import (
    DeadlineExceeded,
    FederationError,
    InvalidRequest,
    NodeUnavailable,
    NotExecutable,
    Overloaded,
    ServerUnavailable,
    ToolNotFound,
)
from mcp_federation.logs import get_logger
from mcp_federation.privacy.records import observation
from mcp_federation.trust.keys import read_trusted_keys
from mcp_federation.trust.policy import Policy
from mcp_federation.trust.policy_file import load_policy

log = get_logger("engine")


class FederatedRAGMCPEngine(RAGMCPEngine):
    """`RAGMCPEngine` with the tools of partners, named `name@host`, in its registry.

    nodes are partners, as a list or comma separated (else the environment's MCP_FEDERATION_NODES): base
        URLs of REST faces, where credentials in a URL are dropped, and `nats://` URLs of meshes.
    token is sent to every partner (else the environment's MCP_FEDERATION_TOKEN).
    trusted_keys are the governance keys, as text or files, whose approvals are believed in `nats://` meshes
        (else the environment's MCP_FEDERATION_TRUSTED_KEYS).
    sources are further sources of tools.
    discover_timeout (seconds) bounds the construction, which asks all partners at once, and each refresh;
        execute_timeout bounds a call.

    A source that cannot be reached, or is no source, is logged and costs its own tools only.
    """

    def __init__(
        self,
        openrouter_api_key: str | None = None,
        vector_dimensions: int = 1536,
        similarity_threshold: float = 0.7,
        top_k_candidates: int = 5,
        enable_llm_validation: bool = True,
        cache_directory: str | None = None,
        mcp_brainstorming_endpoint: str | None = None,
        *,
        nodes: str | Iterable[str] | None = None,
        token: str | None = None,
        trusted_keys: Iterable[str] | None = None,
        sources: Iterable[CatalogSource] = (),
        discover_timeout: float = partner.DISCOVER_TIMEOUT,
        execute_timeout: float = partner.EXECUTE_TIMEOUT,
        retriever: Retriever | None = None,
        scorer: Scorer | None = None,
        llm_url: str | None = None,
        llm_model: str | None = None,
        encoder: str | None = None,
    ) -> None:
        super().__init__(
            openrouter_api_key,
            vector_dimensions,
            similarity_threshold,
            top_k_candidates,
            enable_llm_validation,
            cache_directory,
            mcp_brainstorming_endpoint,
            retriever=retriever,
            scorer=scorer,
            llm_url=llm_url,
            llm_model=llm_model,
            encoder=encoder,
        )
        self._discover_timeout = discover_timeout
        self._execute_timeout = execute_timeout
        if nodes is None:
            nodes = os.environ.get("MCP_FEDERATION_NODES", "")
        urls = nodes.split(",") if isinstance(nodes, str) else list(nodes)
        if trusted_keys is None:
            trusted_keys = filter(None, os.environ.get("MCP_FEDERATION_TRUSTED_KEYS", "").split(","))
        self._trusted_keys = tuple(trusted_keys)
        token = token or os.environ.get("MCP_FEDERATION_TOKEN") or None
        self._sources: list[CatalogSource] = [*sources, *self._partners(urls, token)]
        self._owned: dict[str, dict[str, MCPToolSpec]] = {source.label: {} for source in self._sources}
        self._measured: dict[str, dict[str, Performance]] = {source.label: {} for source in self._sources}
        self._owners: dict[str, CatalogSource] = {}
        self._clashes: set[tuple[str, str]] = set()
        self._changed: set[str] = set()
        self._upkeeps = {
            source.label: Upkeep(source, partial(self._changed.add, source.label)) for source in self._sources
        }
        if self._sources:
            try:
                run_in_thread(self._load, discover_timeout)
            except FederationError as error:
                log.warn("sources_unavailable", reason=error.message)

    def _replace_registry(self, registry: ParetoMCPRegistry) -> None:
        super()._replace_registry(registry)
        self._owned = {source.label: {} for source in self._sources}
        self._owners.clear()
        self._changed.update(self._owned)

    async def initialize(self) -> bool:
        """Follow the sources from now on, and build the index; True when ready.

        Meshes are followed live, REST partners are read every minute, and when a call found one gone; what
        cannot be reached is tried again. Both end with `aclose` or the event loop; then initialize anew.
        """
        starts = (upkeep.start() for upkeep in self._upkeeps.values())
        self._note(await asyncio.gather(*starts, return_exceptions=True))
        return await super().initialize()

    async def refresh(self) -> None:
        """Ask every source anew, now; what does not answer within its deadline is unavailable.

        An engine that is not initialized follows nothing: this is then the only way to bring it up to date.
        """
        await self._load()
        self._catch_up()

    async def aclose(self) -> None:
        """Follow no source any longer."""
        await super().aclose()
        stops = (upkeep.stop() for upkeep in self._upkeeps.values())
        self._note(await asyncio.gather(*stops, return_exceptions=True))

    async def __aenter__(self) -> Self:
        try:
            await self.initialize()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def execute(self, mcp_name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Run a tool where it is, and return its result.

        A plain name goes to the best tool that has it, and on to the next while nothing ran.

        Raises:
            ToolNotFound: no tool has the name.
            NotExecutable: nothing runs it.
            FederationError: what the tool's organisation answered, or that it did not.
        """
        refusal: FederationError | None = None
        for spec in self._candidates(mcp_name):
            try:
                return await self._observed(spec, args, kwargs)
            except (NodeUnavailable, Overloaded) as error:
                refusal = error
        raise refusal or NotExecutable(f"nothing runs {mcp_name!r}", {"name": mcp_name})

    async def _observed(self, spec: MCPToolSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the tool, and let its outcome count where it says something of the provider."""
        began, source = time.perf_counter(), self._owners[spec.name]
        try:
            result = await source.execute(spec, args, kwargs)
        except FederationError as error:
            if isinstance(error, NodeUnavailable | ServerUnavailable | DeadlineExceeded):
                self._upkeeps[source.label].look()
            self._observe(spec, time.perf_counter() - began, error)
            raise
        self._observe(spec, time.perf_counter() - began, None)
        return result

    def _observe(self, spec: MCPToolSpec, seconds: float, error: FederationError | None) -> None:
        record = observation(str(spec.metadata["node"]), spec.name, seconds, error)
        if record is not None:
            self._registry.observe(spec.name, success=record.success, latency_ms=record.latency_ms)

    def _candidates(self, name: str) -> list[MCPToolSpec]:
        registry = self.pareto_registry
        exact = registry.get_exact(name)
        found = [exact] if exact and name in self._owners else registry.providers(name)
        if not found and exact is None:
            raise ToolNotFound(f"no tool is called {name!r}", {"name": name})
        return [spec for spec in found if spec.name in self._owners and spec.metadata.get("executable")]

    async def _load(self) -> None:
        loads = (upkeep.load() for upkeep in self._upkeeps.values())
        self._note(await asyncio.gather(*loads, return_exceptions=True))

    def _note(self, outcomes: Sequence[BaseException | None]) -> None:
        """Log what went wrong, source by source."""
        for source, outcome in zip(self._sources, outcomes, strict=True):
            if isinstance(outcome, FederationError):
                log.warn("source_unavailable", source=source.label, code=outcome.code, reason=outcome.message)
            elif isinstance(outcome, Exception):
                log.error("source_failed", source=source.label, exc_info=outcome)

    def _catch_up(self) -> None:
        for source in self._sources:
            fresh = source.performance()
            self._measured[source.label].update(fresh)
            if source.label in self._changed:
                self._changed.discard(source.label)
                self._merge(source)
            owned = self._owned[source.label]
            for name, measured in fresh.items():
                if name in owned and self._registry.performance(name) != measured:
                    self._registry.record_performance(name, measured)

    def _merge(self, source: CatalogSource) -> None:
        owned = self._owned[source.label]
        fresh = {spec.name: spec for spec in source.entries()}
        for name in owned.keys() - fresh.keys():
            del owned[name], self._owners[name]
            self._measured[source.label].pop(name, None)  # the registry keeps it
            self._registry.remove_mcp(name)
        for name, spec in fresh.items():
            if owned.get(name) is spec:
                continue
            if name not in owned and self._registry.get_exact(name) is not None:
                self._note_clash(source, name)
                continue
            self._registry.add_mcp(spec)
            if name not in owned and (measured := self._measured[source.label].get(name)):
                self._registry.record_performance(name, measured)
            owned[name] = spec
            self._owners[name] = source

    def _note_clash(self, source: CatalogSource, name: str) -> None:
        if (source.label, name) not in self._clashes:
            self._clashes.add((source.label, name))
            log.warn("name_taken", source=source.label, tool=name)

    def _partners(self, urls: Iterable[str], token: str | None) -> list[CatalogSource]:
        partners: dict[str, CatalogSource] = {}
        for position, url in enumerate(filter(None, map(str.strip, urls)), start=1):
            try:
                source = source_for(
                    url,
                    token,
                    self._trusted_keys,
                    discover_timeout=self._discover_timeout,
                    execute_timeout=self._execute_timeout,
                )
                partners.setdefault(source.label, source)
            except InvalidRequest as error:
                # Not the URL itself: it may hold credentials.
                log.error("partner_ignored", position=position, reason=error.message)
        return list(partners.values())


def _import_policy() -> Policy | None:
    """The policy of the environment's MCP_FEDERATION_IMPORT_POLICY."""
    source = os.environ.get("MCP_FEDERATION_IMPORT_POLICY")
    return load_policy(source) if source else None


def source_for(
    url: str,
    token: str | None,
    trusted_keys: Iterable[str] = (),
    *,
    discover_timeout: float,
    execute_timeout: float,
) -> CatalogSource:
    """The source behind a URL of MCP_FEDERATION_NODES.

    Raises:
        InvalidRequest: there is none for such a URL.
    """
    if url.startswith(("nats://", "tls://", "ws://", "wss://")):
        return NatsMesh(
            url,
            read_trusted_keys(trusted_keys),
            imports=_import_policy(),
            discover_timeout=discover_timeout,
            execute_timeout=execute_timeout,
        )
    return RestPartner(
        url,
        token,
        imports=_import_policy(),
        discover_timeout=discover_timeout,
        execute_timeout=execute_timeout,
    )
