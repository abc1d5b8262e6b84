"""Answers execute requests: checks the arguments, calls the server within the deadline, keeps the record."""

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mcp_federation.bus.alarms import Alarms
from mcp_federation.bus.blobs import Blobs
from mcp_federation.bus.protocol import Bus, Delivery, Reply, Subscription
from mcp_federation.contract.deadlines import seconds_of
from mcp_federation.contract.mcp import CallParams, decode_params
from mcp_federation.contract.messages import Blob, Cancel, Record, decode, encode
from mcp_federation.contract.subjects import CANCEL, EXECUTE, Header, node_queue
from mcp_federation.contract.text import PARSE_ASIDE, nests_deeper
from mcp_federation.errors import (
    Cancelled,
    FederationError,
    InternalError,
    InvalidArguments,
    InvalidRequest,
    NotExecutable,
    Overloaded,
    ServerDown,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
)
from mcp_federation.logs import get_logger
from mcp_federation.node.execution.caller import Caller
from mcp_federation.node.execution.outcomes import Outcomes, fingerprint
from mcp_federation.node.execution.standstill import Standstill
from mcp_federation.node.publication.registrar import Registrar
from mcp_federation.node.servers.server import SupervisedServer
from mcp_federation.node.tools import LocalTool
from mcp_federation.privacy.publisher import RecordPublisher

log = get_logger("node")

START_PATIENCE = 10.0
"""Seconds that a call waits at most for a server that starts with the node."""

FETCH_PATIENCE = 5.0
"""Seconds that a node which stops gives its callers to fetch large results."""

BUSY_MS = 500
"""Milliseconds after which to try again a node that has too many large results to send."""

MAX_HANDED_ON = 16
"""How often a request may go on: where one replica of two can run it, one in 65,000 stays with the other."""

MAX_CANCELS = 10_000
"""Cancels that may wait for their turn of the loop; of those beyond the calls run to the end."""


class Executor:
    """Executes the node's published tools for callers on the bus."""

    def __init__(
        self,
        bus: Bus,
        node: str,
        instance: str,
        registrar: Registrar,
        servers: Mapping[str, SupervisedServer],
        records: RecordPublisher,
        *,
        default_timeout: float,
        max_timeout: float,
        max_in_flight: int,
        max_payload: int,
        max_depth: int,
    ) -> None:
        self._bus = bus
        self._node = node
        self._instance = instance
        self._registrar = registrar
        self._servers = servers
        self._records = records
        self._default_timeout = default_timeout
        self._max_timeout = max_timeout
        self._max_in_flight = max_in_flight
        self._max_depth = max_depth
        self._names: dict[str, str] = {}
        self._outcomes = Outcomes()
        self._blobs = Blobs(bus, limit=max_payload)
        self._alarms = Alarms()
        self._standstill = Standstill(bus)
        self._running: dict[str, set[asyncio.Task[Any]]] = {}
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._subscriptions: list[Subscription] = []
        self.stats = {"requests": 0, "errors": 0, "nanoseconds": 0}
        self.in_flight = 0
        self._stopping = False

    async def start(self) -> None:
        """Take requests; replicas of the node share them."""
        self._standstill.start()
        self._subscriptions = [
            await self._bus.respond(
                EXECUTE.every(self._node),
                self._respond,
                queue=node_queue(self._node),
                limit=self._max_in_flight,
            ),
            # As requests come: so that a cancel is not behind one that was sent before it.
            await self._bus.respond(CANCEL.of(self._node), self._on_cancel, limit=MAX_CANCELS),
        ]

    async def stop(self) -> None:
        """Take no more, and finish those taken."""
        self._stopping = True  # whoever takes what is handed on may be nobody
        for subscription in self._subscriptions:
            await subscription.close()
        await self._standstill.stop()
        await self._blobs.taken(FETCH_PATIENCE)
        await self._blobs.close()
        self._alarms.clear()

    async def _respond(self, delivery: Delivery) -> Reply | None:
        self.stats["requests"] += 1
        self.in_flight += 1
        began = time.perf_counter_ns()
        request_id = delivery.headers.get(Header.REQUEST_ID)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy: a coroutine that runs is in a task
        if request_id is not None:
            self._running.setdefault(request_id, set()).add(task)
        caller = Caller(self._bus, self._alarms, delivery, self._instance)
        try:
            if not self._standstill.is_over:
                await self._standstill.over()
            deadline = time.monotonic() + self._timeout(delivery)
            result = await self._once(delivery, request_id, deadline, caller)
            return await self._reply(result, deadline, caller)
        except asyncio.CancelledError:
            self.stats["errors"] += 1
            task.uncancel()  # the caller is told, whoever cancelled
            if task in self._cancelled:
                raise Cancelled("the caller cancelled the execution") from None
            raise ServerUnavailable("the node stopped before the tool answered") from None
        except _ElsewhereError:
            await self._hand_on(delivery)
            return None
        except Exception:
            self.stats["errors"] += 1
            raise
        finally:
            self._cancelled.discard(task)
            if request_id is not None:
                self._running[request_id].discard(task)
                if not self._running[request_id]:
                    del self._running[request_id]
            self.in_flight -= 1
            self.stats["nanoseconds"] += time.perf_counter_ns() - began
            await caller.leave()

    async def _once(
        self, delivery: Delivery, request_id: str | None, deadline: float, caller: Caller
    ) -> bytes:
        if request_id is None:
            return await self._execute(delivery, deadline, caller)
        blob = decode(delivery.payload, Blob) if Header.BLOB in delivery.headers else None
        call = fingerprint(delivery.subject, blob.digest.encode() if blob else delivery.payload)
        return await self._outcomes.once(
            request_id, call, lambda: self._execute(delivery, deadline, caller), _left(deadline)
        )

    async def _execute(self, delivery: Delivery, deadline: float, caller: Caller) -> bytes:
        if self._blobs.crowded:
            raise Overloaded("the results of other calls wait to be fetched", {"retry_after_ms": BUSY_MS})
        name = self._name(delivery.subject)
        tool = self._registrar.get(name)
        if tool is None:
            tool = await self._awaited(name, _left(deadline), delivery)
        if not tool.executable:
            raise NotExecutable(f"{name!r} is described only: nothing runs it")
        server = self._servers.get(tool.server)
        if server is None:
            raise ServerDown(f"the MCP server {tool.server!r} is not available")
        if not server.connected:
            # Before the arguments are fetched: who sends large ones keeps them for one receiver.
            self._leave_to_another(delivery)
        params = await self._params(delivery, deadline)
        if params.name not in ("", name):
            raise InvalidRequest(f"the params name {params.name!r}, the subject {name!r}")
        tool.check_arguments(params.arguments)
        return await self._call(server, tool, params.arguments, _left(deadline), caller)

    async def _params(self, delivery: Delivery, deadline: float) -> CallParams:
        payload = delivery.payload or b"{}"
        if Header.BLOB in delivery.headers:
            payload = await self._blobs.fetch(decode(payload, Blob), _left(deadline))
        # Some parsers of MCP servers give up on what nests deeply, and never answer.
        if len(payload) < PARSE_ASIDE:
            too_deep = nests_deeper(payload, self._max_depth)
        else:
            too_deep = await asyncio.to_thread(nests_deeper, payload, self._max_depth)
        if too_deep:
            raise InvalidArguments(f"the arguments nest deeper than {self._max_depth} levels")
        return decode_params(payload)

    async def _reply(self, result: bytes, deadline: float, caller: Caller) -> Reply:
        if not caller.takes_interim or not self._blobs.needed(len(result)):
            return Reply(result)
        # Kept until the caller has it, or does not come for it.
        offer = await self._blobs.offer(result, timeout=_left(deadline))
        return Reply(encode(offer.blob), {Header.BLOB: "1"})

    def _name(self, subject: str) -> str:
        name = self._names.get(subject)
        if name is None:
            _, name = EXECUTE.parse(subject)
            if self._registrar.get(name) is not None:  # others could be any number
                self._names[subject] = name
        return name

    def _leave_to_another(self, delivery: Delivery) -> None:
        """Have another replica run what this one cannot now; each may be the only one, and so may we.

        Raises:
            _ElsewhereError: it is to be handed on.
        """
        if not self._stopping and _times_handed_on(delivery) < MAX_HANDED_ON:
            raise _ElsewhereError("another replica may have it")

    async def _hand_on(self, delivery: Delivery) -> None:
        times = str(_times_handed_on(delivery) + 1)
        await self._bus.hand_on(delivery, {**delivery.headers, Header.HANDED_ON: times})

    async def _awaited(self, name: str, timeout: float, delivery: Delivery) -> LocalTool:
        """A tool that is not there: after a restart of the node its server may be starting: it is awaited."""
        server = self._servers.get(self._registrar.holder_before(name) or "")
        is_down = self._registrar.is_down(name)
        if not is_down and self._registrar.published.get(name) is None:
            if self._registrar.is_open(name):
                self._leave_to_another(delivery)
            raise ToolNotFound(f"the node {self._node!r} publishes no tool {name!r}")
        self._leave_to_another(delivery)
        if is_down:
            return await self._recovered(name, server, timeout)
        if server is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(timeout, START_PATIENCE)):
                    await server.settled()
        tool = self._registrar.get(name)
        if tool is None:
            raise ServerDown(f"the MCP server of {name!r} is not ready yet")
        return tool

    async def _recovered(self, name: str, server: SupervisedServer | None, timeout: float) -> LocalTool:
        """A tool that was withdrawn with its server, which is tried again now, whatever its backoff."""
        down = ServerDown(f"the MCP server of {name!r} is down")
        if server is None:
            raise down
        deadline = asyncio.get_running_loop().time() + timeout
        await server.recover(timeout)
        await self._registrar.wait_decided([name], deadline - asyncio.get_running_loop().time())
        tool = self._registrar.get(name)
        if tool is None:
            raise down
        return tool

    async def _call(
        self,
        server: SupervisedServer,
        tool: LocalTool,
        arguments: dict[str, Any],
        timeout: float,
        caller: Caller,
    ) -> bytes:
        began = time.perf_counter()
        error_kind: str | None = Cancelled.code
        try:
            outcome = await server.call(
                tool.remote_name, arguments, timeout, caller.progress if caller.takes_progress else None
            )
            error_kind = ToolFailed.code if outcome.is_error else None
            return outcome.result
        except FederationError as error:
            error_kind = error.code
            raise
        except Exception as error:
            error_kind = InternalError.code
            log.exception("call_failed", tool=tool.tool.name, server=server.name)
            raise InternalError("the node failed to call the tool") from error
        finally:
            self._records.add(
                Record(
                    node=self._node,
                    tool=tool.tool.name,
                    success=error_kind is None,
                    latency_ms=(time.perf_counter() - began) * 1000,
                    error_kind=error_kind,
                )
            )

    def _timeout(self, delivery: Delivery) -> float:
        text = delivery.headers.get(Header.TIMEOUT_MS)
        return self._default_timeout if text is None else min(seconds_of(text), self._max_timeout)

    async def _on_cancel(self, delivery: Delivery) -> None:
        try:
            request_id = decode(delivery.payload, Cancel).request_id
        except InvalidRequest as error:
            log.warn("cancel_refused", reason=error.message)
            return
        for task in self._running.get(request_id, ()):
            # So that the task can tell it from our own shutdown.
            self._cancelled.add(task)
            task.cancel()


def _left(deadline: float) -> float:
    """Seconds; a call that has none left is told so where it would wait."""
    return max(deadline - time.monotonic(), 0.001)


def _times_handed_on(delivery: Delivery) -> int:
    text = delivery.headers.get(Header.HANDED_ON, "0")
    return int(text) if re.fullmatch("[0-9]{1,2}", text) else MAX_HANDED_ON


class _ElsewhereError(ServerDown):
    """This replica cannot run it now, and another may."""
