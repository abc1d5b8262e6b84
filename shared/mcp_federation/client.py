"""The Python client: finds tools in the catalog and executes them over the bus."""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Bus, Delivery
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.contract.arguments import bind
from mcp_federation.contract.mcp import CallParams, CallResult, decode_result
from mcp_federation.contract.messages import Cancel, encode, raise_error_reply
from mcp_federation.contract.names import split_federated_name
from mcp_federation.contract.subjects import CANCEL, Header
from mcp_federation.errors import (
    FederationError,
    InternalError,
    InvalidRequest,
    NodeUnavailable,
    NotExecutable,
    Overloaded,
    ToolFailed,
    ToolNotFound,
)
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import TrustedKey

DEFAULT_TIMEOUT = 30.0
REPLY_GRACE = 0.25
"""Seconds that a caller waits beyond the deadline, so that the node's own answer to it arrives."""


def new_request_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and ordered by time."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


class FederationClient:
    """Discovers and executes tools of the mesh.

    `home` names the node whose tools a plain name prefers.
    """

    def __init__(self, bus: Bus, catalog: CatalogReplica, *, home: str | None = None) -> None:
        self._bus = bus
        self.catalog = catalog
        self._home = home

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, trusted_keys: Iterable[TrustedKey], *, home: str | None = None
    ) -> AsyncIterator[Self]:
        """A client on a connection of its own.

        Raises:
            BusUnavailable: no NATS server answers.
            DeadlineExceeded: the catalog does not answer.
        """
        async with await NatsBus.connect(url, name="mcp-federation-client") as bus:
            catalog = CatalogReplica(bus, ApprovalVerifier(trusted_keys))
            try:
                await catalog.start()
                yield cls(bus, catalog, home=home)
            finally:
                await catalog.stop()

    def discover(self) -> list[CatalogTool]:
        """Every approved tool, those of unavailable nodes included, sorted by federated name."""
        return sorted(self.catalog.state.tools(), key=lambda tool: tool.federated_name)

    def candidates(self, name: str) -> list[CatalogTool]:
        """The tools that a name may mean, best first: one for `local@node`, every provider for a plain name.

        Raises:
            ToolNotFound: none.
        """
        local, node = split_federated_name(name)
        state = self.catalog.state
        if node is not None and (tool := state.get(node, local)):
            return [tool]
        providers = state.providers(name)
        if not providers:
            raise ToolNotFound(f"no tool is called {name!r}", {"name": name})
        random.shuffle(providers)
        providers.sort(
            key=lambda tool: (not tool.executable, not state.is_available(tool.node), tool.node != self._home)
        )
        return providers

    async def execute(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = DEFAULT_TIMEOUT
    ) -> CallResult:
        """Execute a tool within `timeout` seconds; see `execute_any`."""
        _, result = await self.execute_any(name, (), arguments or {}, timeout=timeout)
        return result

    async def execute_any(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> tuple[CatalogTool, CallResult]:
        """Execute a tool within `timeout` seconds; which provider it was, and its result.

        A plain name goes to the best provider, and on to the next while nothing ran. Positional arguments
        are mapped anew for each, by the order of its parameters.

        Raises:
            ToolNotFound, NotExecutable, InvalidArguments, ToolFailed, NodeUnavailable, Overloaded,
            DeadlineExceeded and the other errors that a node answers with.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        refusal: FederationError | None = None
        for tool in self.candidates(name):
            if not tool.executable:
                break  # these come last
            arguments = bind(tool.tool, args, kwargs)
            left = max(deadline - asyncio.get_running_loop().time(), 0.001)
            try:
                return tool, await self._execute(tool, arguments, left)
            except (NodeUnavailable, Overloaded) as error:
                refusal = error
        raise refusal or NotExecutable(f"{name!r} is described only: nothing runs it")

    async def _execute(self, tool: CatalogTool, arguments: dict[str, Any], timeout: float) -> CallResult:
        request_id = new_request_id()
        payload = encode(CallParams(name=tool.name, arguments=arguments))
        headers = {Header.TIMEOUT_MS: str(max(1, int(timeout * 1000))), Header.REQUEST_ID: request_id}
        subject = tool.entry.execute_subject or ""
        try:
            reply = await self._bus.request(subject, payload, timeout=timeout + REPLY_GRACE, headers=headers)
        except NodeUnavailable:
            self.catalog.note_unavailable(tool.node)
            raise NodeUnavailable(
                f"the node {tool.node!r} does not answer", {"node": tool.node, "tool": tool.name}
            ) from None
        except asyncio.CancelledError:
            await self._bus.publish(CANCEL.of(tool.node), encode(Cancel(request_id=request_id)))
            raise
        return _result(reply)


def _result(reply: Delivery) -> CallResult:
    if Header.ERROR_CODE in reply.headers:
        raise_error_reply(reply.payload)
    try:
        result = decode_result(reply.payload)
    except InvalidRequest as error:
        raise InternalError("the node answered with what is no result") from error
    if result.is_error:
        raise ToolFailed(result.text or "the tool reported an error without a text")
    return result
