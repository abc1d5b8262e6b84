"""The engine over several organisations' tools: it lists them beside the local ones and calls them."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.rag import RAGMCPEngine
from mcp_federation.engine.retrieval import Retriever
from mcp_federation.engine.sources import partner
from mcp_federation.engine.sources.configured import sources_at
from mcp_federation.engine.sources.source import CatalogSource
from mcp_federation.engine.sources.supply import Supply
from mcp_federation.engine.sync import run_in_thread
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.engine.validation import Scorer
from mcp_federation.errors import (
    FederationError,
    NodeUnavailable,
    NotExecutable,
    Overloaded,
    ToolNotFound,
)
from mcp_federation.logs import get_logger
from mcp_federation.privacy.records import observation

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
        if nodes is None:
            nodes = os.environ.get("MCP_FEDERATION_NODES", "")
        urls = nodes.split(",") if isinstance(nodes, str) else list(nodes)
        if trusted_keys is None:
            trusted_keys = filter(None, os.environ.get("MCP_FEDERATION_TRUSTED_KEYS", "").split(","))
        token = token or os.environ.get("MCP_FEDERATION_TOKEN") or None
        partners = sources_at(
            urls,
            token,
            tuple(trusted_keys),
            discover_timeout=discover_timeout,
            execute_timeout=execute_timeout,
        )
        self._supply = Supply([*sources, *partners])
        if self._supply:
            try:
                run_in_thread(self._supply.load, discover_timeout)
            except FederationError as error:
                log.warn("sources_unavailable", reason=error.message)

    def _replace_registry(self, registry: ParetoMCPRegistry) -> None:
        super()._replace_registry(registry)
        self._supply.begin_anew()

    async def initialize(self) -> bool:
        """Follow the sources from now on, and build the index; True when ready.

        Meshes are followed live, REST partners are read every minute, and when a call found one gone; what
        cannot be reached is tried again. Both end with `aclose` or the event loop; then initialize anew.
        """
        await self._supply.start()
        return await super().initialize()

    async def refresh(self) -> None:
        """Ask every source anew, now; what does not answer within its deadline is unavailable.

        An engine that is not initialized follows nothing: this is then the only way to bring it up to date.
        """
        await self._supply.load()
        self._catch_up()

    async def aclose(self) -> None:
        """Follow no source any longer."""
        await super().aclose()
        await self._supply.stop()

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
        began = time.perf_counter()
        try:
            result = await self._supply.execute(spec, args, kwargs)
        except FederationError as error:
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
        found = [exact] if exact and self._supply.runs(name) else registry.providers(name)
        if not found and exact is None:
            raise ToolNotFound(f"no tool is called {name!r}", {"name": name})
        return [spec for spec in found if self._supply.runs(spec.name) and spec.metadata.get("executable")]

    def _catch_up(self) -> None:
        self._supply.bring_into(self._registry)
