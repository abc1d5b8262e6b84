"""One try of a call on one node: the request, what comes before its answer, and the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

from mcp_federation.bus.alarms import Alarms
from mcp_federation.bus.blobs import Blobs, Offer
from mcp_federation.bus.protocol import Bus, Delivery
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.client.balancing import Balancer
from mcp_federation.client.liveness import WhileAlive
from mcp_federation.client.retries import Call, OnProgress, is_repeatable
from mcp_federation.contract.mcp import CallParams, CallResult, decode_result
from mcp_federation.contract.messages import (
    Blob,
    Cancel,
    Progress,
    Running,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.subjects import CANCEL, Header
from mcp_federation.errors import (
    BusUnavailable,
    Cancelled,
    DeadlineExceeded,
    FederationError,
    InternalError,
    InvalidArguments,
    InvalidRequest,
    NodeLost,
    NodeUnavailable,
    Overloaded,
    ToolFailed,
)
from mcp_federation.logs import get_logger

log = get_logger("client")

OnOutcome = Callable[[CatalogTool, float, FederationError | None], None]

REPLY_GRACE = 0.25
"""Seconds that a caller waits beyond the deadline, so that the node's own answer to it arrives."""


class Attempts:
    """Makes the tries of a client's calls. Its owner closes it."""

    def __init__(
        self,
        bus: Bus,
        catalog: CatalogReplica,
        balancer: Balancer,
        *,
        on_outcome: OnOutcome | None,
        max_payload: int,
    ) -> None:
        self._bus = bus
        self._catalog = catalog
        self._balancer = balancer
        self._on_outcome = on_outcome
        self._blobs = Blobs(bus, limit=max_payload)
        self._alarms = Alarms()

    async def close(self) -> None:
        """Keep nothing for anybody any longer."""
        self._alarms.clear()
        await self._blobs.close()

    async def make(
        self, tool: CatalogTool, arguments: dict[str, Any], timeout: float, call: Call
    ) -> CallResult:
        """The result of one try; what came of it is told to the balancer.

        Raises:
            BusUnavailable, NodeUnavailable, NodeLost, ToolFailed, DeadlineExceeded and whatever the node
            answers with.
        """
        if not self._bus.connected:  # whoever calls in a loop would not let it connect again
            await asyncio.sleep(0)
            raise BusUnavailable("the connection to NATS is down")
        if not self._catalog.state.is_available(tool.node):
            raise _unavailable(tool)
        began = time.monotonic()
        error: FederationError | None = Cancelled("by the caller")
        self._balancer.started(tool)
        try:
            result = await self._request(tool, arguments, timeout, call)
            error = None
        except FederationError as raised:
            error = raised
            raise
        finally:
            seconds = time.monotonic() - began
            self._balancer.finished(tool, seconds, error)
            if self._on_outcome is not None:
                self._on_outcome(tool, seconds, error)
            error = None  # or it and this frame would keep each other, and the payload
        return result

    async def _request(
        self, tool: CatalogTool, arguments: dict[str, Any], timeout: float, call: Call
    ) -> CallResult:
        payload = _payload(tool, arguments)
        headers = {
            Header.REQUEST_ID: call.request_id(tool),
            Header.ACCEPT: "interim" if call.on_progress is None else "progress",
        }
        if not self._blobs.needed(len(payload)):
            return await self._answer(_Request(tool, payload, headers, call), timeout)
        offer = await self._offered(payload, timeout, call)
        left = max(call.deadline - time.monotonic(), 0.001)
        headers[Header.BLOB] = "1"
        try:
            return await self._answer(_Request(tool, encode(offer.blob), headers, call), left)
        except InvalidRequest:
            if not offer.gave_way:
                raise
            raise Overloaded("the arguments had to make room before the node came for them") from None

    async def _offered(self, payload: bytes, timeout: float, call: Call) -> Offer:
        before = call.offer
        if before is not None:
            if before.kept and before.holds(payload):
                return before
            before.release()  # first: who waits for room must not have any
        call.offer = await self._blobs.offer(payload, hold=timeout, timeout=timeout)
        return call.offer

    async def _answer(self, request: "_Request", timeout: float) -> CallResult:
        try:
            reply = await self._asked(request, timeout)
        except NodeUnavailable:
            self._catalog.note_unavailable(request.tool.node)
            raise _unavailable(request.tool) from None
        except (asyncio.CancelledError, DeadlineExceeded):
            # The node may have it in its socket still, or not notice the deadline.
            await self._cancel(request)
            raise
        if Header.BLOB in reply.headers:
            left = max(request.call.deadline - time.monotonic(), REPLY_GRACE)
            return _result(await self._fetched(reply.payload, left))
        if Header.ERROR_CODE in reply.headers:
            raise_error_reply(reply.payload)
        return _result(reply.payload)

    async def _asked(
        self, request: "_Request", timeout: float, silent: frozenset[str] | None = None
    ) -> Delivery:
        node = request.tool.node
        ask_again = partial(self._ask_again, request)
        alive = WhileAlive(self._bus, self._alarms, node, self._catalog.state.instances, ask_again, silent)
        try:
            async with alive:
                alive.answer = await self._bus.request(
                    request.tool.entry.execute_subject or "",
                    request.payload,
                    timeout=timeout + REPLY_GRACE,
                    headers={Header.TIMEOUT_MS: str(max(1, int(timeout * 1000))), **request.headers},
                    on_interim=partial(_on_interim, alive, request.call.on_progress),
                )
        except NodeLost:
            if alive.all_lost:
                self._catalog.note_unavailable(node)
            raise
        assert alive.answer is not None  # noqa: S101 - for mypy: it is left with one, or raises
        return alive.answer

    def _ask_again(self, request: "_Request", silent: frozenset[str]) -> Awaitable[Delivery] | None:
        left = request.call.deadline - time.monotonic()
        if left <= 0 or not is_repeatable(request.tool):
            return None
        if Header.BLOB in request.headers:
            return None  # the one that hangs may have fetched it
        return self._once_more(request, left, silent)

    async def _once_more(self, request: "_Request", timeout: float, silent: frozenset[str]) -> Delivery:
        """The same under the same id: an instance that has it already runs it no second time."""
        tool = request.tool
        log.info("asked_again", node=tool.node, tool=tool.name, reason="an instance of it does not answer")
        request.call.doubt(tool)
        try:
            return await self._asked(request, timeout, silent)
        finally:
            # Whoever answered: the others need not go on, nor begin when they wake.
            await self._cancel(request)

    async def _cancel(self, request: "_Request") -> None:
        cancel = Cancel(request_id=request.headers[Header.REQUEST_ID])
        with suppress(BusUnavailable):
            await self._bus.publish(CANCEL.of(request.tool.node), encode(cancel))

    async def _fetched(self, payload: bytes, timeout: float) -> bytes:
        try:
            return await self._taken(decode(payload, Blob), timeout)
        except InvalidRequest as error:
            raise InternalError(f"the tool ran, and its result did not arrive: {error.message}") from error

    async def _taken(self, blob: Blob, timeout: float) -> bytes:
        try:
            return await self._blobs.fetch(blob, timeout)
        except (asyncio.CancelledError, DeadlineExceeded):
            await self._blobs.let_go(blob)  # nobody else comes for it
            raise


@dataclass(slots=True)
class _Request:
    """One try of a call on a node, as it is sent; `headers` are all but the deadline."""

    tool: CatalogTool
    payload: bytes
    headers: dict[str, str]
    call: Call


def _on_interim(alive: WhileAlive, on_progress: OnProgress | None, delivery: Delivery) -> None:
    try:
        if delivery.headers[Header.INTERIM] == "running":
            alive.holder = decode(delivery.payload, Running).instance
        elif on_progress is not None:
            on_progress(decode(delivery.payload, Progress))
    except InvalidRequest as error:
        log.warn("interim_refused", subject=delivery.subject, reason=error.message)
    except Exception:
        log.exception("progress_callback_failed", message="the call goes on")


def _unavailable(tool: CatalogTool) -> NodeUnavailable:
    return NodeUnavailable(f"the node {tool.node!r} does not answer", {"node": tool.node, "tool": tool.name})


def _payload(tool: CatalogTool, arguments: dict[str, Any]) -> bytes:
    try:
        payload = encode(CallParams(name=tool.name, arguments=arguments))
        # Of a number that JSON has not, the encoder makes null.
        if b"null" in payload and not _all_finite(arguments):
            raise ValueError("a number is infinite, or none")
        return payload
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(f"the arguments are not JSON: {error}") from error


def _all_finite(value: Any) -> bool:
    """Whether no number in it is infinite or NaN."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, float):
            if not isfinite(item):
                return False
        elif isinstance(item, Mapping):
            rest += item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            rest += item
    return True


def _result(payload: bytes) -> CallResult:
    try:
        result = decode_result(payload)
    except InvalidRequest as error:
        raise InternalError("the node answered with what is no result") from error
    if result.is_error:
        raise ToolFailed(result.text or "the tool reported an error without a text")
    return result
