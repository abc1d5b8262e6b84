"""A partner's REST face as a source of the engine's tools."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from mcp_federation.engine.choice.pareto import Performance
from mcp_federation.engine.documents import marked, tool_spec
from mcp_federation.engine.sources import partner
from mcp_federation.engine.sources.source import OnChange
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.errors import FederationError
from mcp_federation.logs import get_logger
from mcp_federation.trust.policy import Policy, weigh_unverified

log = get_logger("engine")


class RestPartner:
    """A partner by its REST face; its tools are named `name@host`. Timeouts in seconds.

    A partner that cannot be reached any more keeps its tools, as unavailable. `imports` is an import policy
    of one's own over tools of which nothing proves that anybody approved them, see `weigh_unverified`.

    Raises:
        InvalidRequest: the URL is no http or https URL.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        imports: Policy | None = None,
        discover_timeout: float = partner.DISCOVER_TIMEOUT,
        execute_timeout: float = partner.EXECUTE_TIMEOUT,
    ) -> None:
        base = partner.base_url(url)
        self._url = str(base)
        self._host = partner.host_label(base)
        self._token = token
        self._imports = imports
        self._left_out: set[str] = set()
        self._discover_timeout = discover_timeout
        self._execute_timeout = execute_timeout
        self._listed: dict[str, tuple[partner.PartnerEntry, MCPToolSpec]] = {}
        self._performance: dict[str, Performance] = {}

    @property
    def label(self) -> str:
        """The partner's URL, without credentials."""
        return self._url

    async def load(self) -> None:
        """Read what the partner lists, and what its records say of it; the latter may fail."""
        listed, measured = await asyncio.gather(
            partner.discover(self._url, self._token, self._discover_timeout),
            partner.performance(self._url, self._token, self._discover_timeout),
            return_exceptions=True,
        )
        if isinstance(listed, BaseException):
            self._listed = {
                name: self._keep(entry, available=False) for name, (entry, _) in self._listed.items()
            }
            raise listed
        # Thousands of long texts take seconds: not on the event loop.
        self._listed = await asyncio.to_thread(self._read, [entry for entry, _ in listed])
        if isinstance(measured, FederationError):
            log.info("partner_performance_unknown", partner=self.label, reason=measured.message)
        elif isinstance(measured, BaseException):
            raise measured
        else:
            self._performance = {f"{name}@{self._host}": value for name, value in measured.items()}

    async def start(self, on_change: OnChange) -> None:
        """Nothing: a REST face cannot be followed; `load` reads it anew."""

    async def stop(self) -> None:
        """Nothing: no connection stays open."""

    def entries(self) -> Iterable[MCPToolSpec]:
        """The tools as last listed."""
        return [spec for _, spec in self._listed.values()]

    def performance(self) -> Mapping[str, Performance]:
        """What the partner's own records said at the last load."""
        fresh, self._performance = self._performance, {}
        return fresh

    async def execute(self, spec: MCPToolSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run it at the partner."""
        name = str(spec.metadata["local_name"])
        return await partner.execute(self._url, name, args, kwargs, self._token, self._execute_timeout)

    def _read(
        self, entries: Sequence[partner.PartnerEntry]
    ) -> dict[str, tuple[partner.PartnerEntry, MCPToolSpec]]:
        return {entry.name: self._keep(entry, available=entry.available) for entry in self._admitted(entries)}

    def _admitted(self, entries: Sequence[partner.PartnerEntry]) -> list[partner.PartnerEntry]:
        """Those that the import policy lets pass; that it does not let others is logged when they change."""
        if self._imports is None:
            return list(entries)
        judged = [(entry, weigh_unverified(self._imports, entry.name, self._host)) for entry in entries]
        left_out = {entry.name for entry, judgement in judged if judgement.decision != "approved"}
        if left_out - self._left_out:
            log.warn(
                "partner_tools_left_out",
                message="the import policy leaves out tools that it neither allows by name nor can verify",
                partner=self.label,
                policy=self._imports.name,
                tools=len(left_out),
                listed=len(entries),
            )
        self._left_out = left_out
        return [entry for entry in entries if entry.name not in left_out]

    def _keep(
        self, entry: partner.PartnerEntry, *, available: bool
    ) -> tuple[partner.PartnerEntry, MCPToolSpec]:
        known = self._listed.get(entry.name)
        if not known or replace(known[0], available=entry.available) != entry:
            return entry, self._spec(entry, available=available)
        spec = known[1]
        if spec.metadata["available"] == available:
            return known
        return entry, marked(spec, available=available)

    def _spec(self, entry: partner.PartnerEntry, *, available: bool) -> MCPToolSpec:
        return tool_spec(
            entry.name,
            self._host,
            description=entry.description or "",
            title=entry.title,
            version=entry.version or "0.0.0",
            server=entry.server or "",
            input_schema=entry.input_schema,
            executable=entry.executable,
            available=available,
            source=self._url,
        )
