"""The Python client: finds tools in the catalog and executes them over the bus."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from tenacity import AsyncRetrying, retry_if_exception_type

from mcp_federation.bus.blobs import DEFAULT_LIMIT
from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.performance import PerformanceView
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.client.attempts import Attempts, OnOutcome
from mcp_federation.client.balancing import Balancer
from mcp_federation.client.retries import Allowance, Call, OnProgress, check_callback
from mcp_federation.contract.arguments import bind
from mcp_federation.contract.mcp import CallResult
from mcp_federation.contract.names import split_federated_name
from mcp_federation.errors import (
    DeadlineExceeded,
    FederationError,
    InvalidRequest,
    NotExecutable,
    Overloaded,
    ToolNotFound,
)
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import TrustedKey
from mcp_federation.trust.policy import Policy

DEFAULT_TIMEOUT = 30.0
MAX_NAMED = 5
"""The most names that an error's text lists."""

LONGEST = 1e9
"""Seconds; a longer timeout, as an infinite one, is this one. Every node has a ceiling far below."""


class FederationClient:
    """Discovers and executes tools of the mesh.

    `home` names the node whose tools a plain name prefers, where no `balancer` knows that already.
    `on_outcome` is called with each try's provider, its seconds, and what it failed with; it must not raise.
    `max_payload` bounds arguments and results, in bytes. Without `waits_for_room` a call that every provider
    refused as overloaded is not tried again: who calls has the hint when to. Its owner closes it.
    """

    def __init__(
        self,
        bus: Bus,
        catalog: CatalogReplica,
        *,
        home: str | None = None,
        balancer: Balancer | None = None,
        on_outcome: OnOutcome | None = None,
        max_payload: int = DEFAULT_LIMIT,
        waits_for_room: bool = True,
    ) -> None:
        self._waits_for_room = waits_for_room
        self._allowance = Allowance()
        self.catalog = catalog
        self._balancer = Balancer(home=home) if balancer is None else balancer
        self._attempts = Attempts(
            bus, catalog, self._balancer, on_outcome=on_outcome, max_payload=max_payload
        )

    async def close(self) -> None:
        """Keep nothing for anybody any longer."""
        await self._attempts.close()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        trusted_keys: Iterable[TrustedKey],
        *,
        home: str | None = None,
        imports: Policy | None = None,
    ) -> AsyncIterator[Self]:
        """A client on a connection of its own; `imports` is its import policy.

        Raises:
            BusUnavailable: no NATS server answers.
            DeadlineExceeded: the catalog does not answer.
        """
        async with await NatsBus.connect(url, name="mcp-federation-client") as bus:
            catalog = CatalogReplica(bus, ApprovalVerifier(trusted_keys), imports)
            figures = PerformanceView(bus)
            client = cls(bus, catalog, balancer=Balancer(figures, home=home))
            try:
                await catalog.start()
                await figures.start()
                yield client
            finally:
                await client.close()
                await figures.stop()
                await catalog.stop()

    def discover(self) -> list[CatalogTool]:
        """Every approved tool, those of unavailable nodes included, sorted by federated name."""
        return sorted(self.catalog.state.tools(), key=lambda tool: tool.federated_name)

    def candidates(self, name: str) -> list[CatalogTool]:
        """The tools that a name may mean, best first: one for `local@node`, every provider for a plain name.

        Providers of one tool have one digest. Another tool of the same name is never a provider: the home
        node's is meant, or else the name is ambiguous. Where none is published, those that were until their
        MCP server went down: a call has it tried again.

        Raises:
            ToolNotFound: none.
            InvalidRequest: several tools that differ have that name, none of them the home node's.
        """
        local, node = split_federated_name(name)
        state = self.catalog.state
        if node is not None and (tool := state.get(node, local)):
            return [tool]
        providers = state.providers(name) or state.down(name) or state.down(local, node)
        if not providers:
            why = state.why_not(local, node)
            raise ToolNotFound(
                f"the tool {name!r} is not believed here: {why}" if why else f"no tool is called {name!r}",
                {"name": name},
            )
        if len(providers) == 1:
            return providers
        providers = _of_one_tool(name, providers, self._balancer.home)
        ready = [tool for tool in providers if tool.executable and state.is_available(tool.node)]
        rest = [tool for tool in providers if tool not in ready]
        return self._balancer.order(ready) + sorted(rest, key=lambda tool: not tool.executable)

    async def execute(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        on_progress: OnProgress | None = None,
    ) -> CallResult:
        """Execute a tool within `timeout` seconds; see `execute_any`."""
        _, result = await self.execute_any(
            name, (), arguments or {}, timeout=timeout, on_progress=on_progress
        )
        return result

    async def execute_any(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        on_progress: OnProgress | None = None,
    ) -> tuple[CatalogTool, CallResult]:
        """Execute a tool within `timeout` seconds; which provider it was, and its result.

        A plain name goes to the best provider, and on to the next, and all of them are tried again while
        the time allows it: where surely nothing ran, or where the tool is declared read-only or idempotent.
        Positional arguments are mapped anew for each provider, by the order of its parameters.
        `on_progress` is called with each step that the tool tells of, in order, before this returns; of a
        call that is tried again, with those of each try.

        Raises:
            TypeError: `on_progress` is asynchronous; nobody would await it.
            ToolNotFound, NotExecutable, InvalidArguments, ToolFailed, NodeUnavailable, Overloaded,
            DeadlineExceeded and the other errors that a node answers with.
        """
        if on_progress is not None:
            check_callback(on_progress)
        if not timeout > 0:
            raise DeadlineExceeded("no time is left for the call: it was not sent")
        providers = [tool for tool in self.candidates(name) if tool.executable]
        if not providers:
            raise NotExecutable(f"{name!r} is described only: nothing runs it")
        timeout = min(timeout, LONGEST)
        deadline = time.monotonic() + timeout
        call = Call(providers, args, kwargs, deadline, self._allowance, on_progress)
        try:
            return await self._try_each(call)
        except _RefusedError:
            if not self._waits_for_room and isinstance(call.refusal, Overloaded):
                raise call.refusal from None
            return await self._try_again(call)
        finally:
            call.end()

    async def _try_each(self, call: Call) -> tuple[CatalogTool, CallResult]:
        for tool in call.providers:
            left = call.deadline - time.monotonic()
            if call.errors and left <= 0:
                break
            try:
                arguments = bind(tool.tool, call.args, call.kwargs)
                result = await self._attempts.make(tool, arguments, max(left, 0.001), call)
                self._allowance.earn()
                return tool, result
            except FederationError as error:
                call.errors.append(error)
                if not call.may_go_on(error, tool):
                    raise call.refusal from None
        raise _RefusedError

    async def _try_again(self, call: Call) -> tuple[CatalogTool, CallResult]:
        first = True

        async def attempt() -> tuple[CatalogTool, CallResult]:
            nonlocal first
            if first:  # it is over: tenacity costs more than a call, and most calls need no second try
                first = False
                raise _RefusedError
            return await self._try_each(call)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_RefusedError),
            wait=call.pause,
            stop=call.is_over,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except _RefusedError:
            raise call.refusal from None


def _of_one_tool(name: str, providers: list[CatalogTool], home: str | None) -> list[CatalogTool]:
    """Who provides the tool that is meant: nobody takes its calls over by publishing another of its name."""
    meant = [tool for tool in providers if tool.node == home] or [
        tool for tool in providers if tool.executable
    ]
    digests = {tool.entry.digest for tool in meant or providers}
    if len(digests) > 1:
        names = sorted(tool.federated_name for tool in meant or providers)
        raise InvalidRequest(
            f"several tools are called {name!r} and differ: {', '.join(names[:MAX_NAMED])}", {"names": names}
        )
    return [tool for tool in providers if tool.entry.digest in digests]


class _RefusedError(Exception):
    """No provider took the call, and it may be tried again."""
