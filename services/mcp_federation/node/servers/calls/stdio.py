"""Calls over the pipes of a child, which they share with the SDK's session: each gets its own answers."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import anyio
import mcp_types
from mcp.shared.message import SessionMessage
from msgspec import UNSET, Raw

from mcp_federation.errors import ServerUnavailable
from mcp_federation.node.servers.calls.calling import Disconnected, OnProgress, Outcome, tell, too_late
from mcp_federation.node.servers.calls.results import BrokenContract, Results
from mcp_federation.node.servers.calls.wire import (
    Requests,
    cancelled,
    decode,
    number_of,
    progress_of,
    refusal,
)
from mcp_federation.node.servers.child import Child

FIRST_ID = 1_000_000_000
"""The SDK counts its own ids from 1; servers that take no strings as ids are left in peace."""

BACKLOG = 256
"""Messages for the SDK's session that wait at most, before the child has to."""

_ID = re.compile(rb'"id"\s*:\s*(\d{10,19})\s*[,}]')


class _Pending(NamedTuple):
    tool: str
    answer: asyncio.Future[Outcome]
    on_progress: OnProgress | None


class Pipe:
    """One child's pipes: the calls' answers go to the calls, everything else to the SDK's session."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.calls: StdioCalls | None = None
        self._to_session: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    def on_line(self, line: bytes) -> None:
        """Take a line of the child."""
        if self.calls is not None and self.calls.take(line):
            return
        self._to_session.append(line)
        self._arrived.set()
        if len(self._to_session) == BACKLOG and self.child is not None:
            self.child.pause_reading(True)

    def on_too_long(self, head: bytes, tail: bytes) -> None:
        """Take the ends of a line that is over the bound."""
        if self.calls is not None:
            self.calls.take_too_long(head, tail)

    def on_end(self) -> None:
        """There are no more lines."""
        self._ended = True
        self._arrived.set()
        if self.calls is not None:
            self.calls.fail_all()

    @asynccontextmanager
    async def streams(self, child: Child) -> AsyncIterator[tuple[Any, Any]]:
        """The transport of the SDK's client over the pipes."""
        self.child = child
        read_in, read_out = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write_in, write_out = anyio.create_memory_object_stream[SessionMessage](0)
        async with read_in, read_out, write_in, write_out, anyio.create_task_group() as group:
            group.start_soon(self._deliver, child, read_in)
            group.start_soon(self._send, child, write_out)
            try:
                yield read_out, write_in
            finally:
                group.cancel_scope.cancel()

    async def _deliver(self, child: Child, session: Any) -> None:
        async with session:
            while True:
                while self._to_session:
                    if len(self._to_session) == BACKLOG:
                        child.pause_reading(False)
                    try:
                        await session.send(_parsed(self._to_session.popleft()))
                    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                        return
                if self._ended:
                    return
                self._arrived.clear()
                await self._arrived.wait()

    async def _send(self, child: Child, messages: Any) -> None:
        async for message in messages:
            child.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await child.writable()


class StdioCalls:
    """Calls tools over the pipes of one child; see `Calls`."""

    def __init__(self, server: str, pipe: Pipe, child: Child, requests: Requests, results: Results) -> None:
        self._server = server
        self._child = child
        self._requests = requests
        self._results = results
        self._numbers = count(FIRST_ID)
        self._pending: dict[int, _Pending] = {}
        self._ended = False
        pipe.calls = self

    async def call(
        self, name: str, arguments: dict[str, Any], timeout: float, on_progress: OnProgress | None
    ) -> Outcome:
        """See `Calls`."""
        try:
            async with asyncio.timeout(timeout):
                if not self._child.is_writable:
                    await self._child.writable()
                return await self._answer(name, arguments, on_progress)
        except TimeoutError:
            raise too_late(timeout) from None

    async def _answer(self, name: str, arguments: dict[str, Any], on_progress: OnProgress | None) -> Outcome:
        if self._ended:
            raise Disconnected(
                f"the MCP server {self._server!r} went away before the call", fault="it ended", ran=False
            )
        number = next(self._numbers)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(name, answer, on_progress)
        # No variable holds the request, or it would be kept, however large, until the answer is there.
        self._child.write(self._requests.call(number, name, arguments, on_progress is not None) + b"\n")
        try:
            return await answer
        except asyncio.CancelledError:
            self._child.write(cancelled(number) + b"\n")
            raise
        finally:
            self._pending.pop(number, None)

    async def close(self) -> None:
        """See `Calls`."""
        for pending in self._pending.values():
            _fail(pending, ServerUnavailable(f"the MCP server {self._server!r} was stopped during the call"))

    def fail_all(self) -> None:
        """The pipes have ended."""
        self._ended = True
        for pending in self._pending.values():
            message = f"the MCP server {self._server!r} went away during the call"
            _fail(pending, Disconnected(message, fault="it ended"))

    def take(self, line: bytes) -> bool:
        """Take a line of the child; whether it was for a call."""
        message = decode(line)
        if message is None:
            return False
        if message.method == "notifications/progress":
            return self._take_progress(progress_of(message.params))
        number = number_of(message.id)
        if message.method is not None or number is None or number < FIRST_ID:
            return False
        pending = self._pending.pop(number, None)
        if pending is None or pending.answer.done():
            return True  # nobody waits for it any more
        if message.error is not None:
            _fail(pending, refusal(message.error, self._server, pending.tool))
        elif message.result is UNSET:
            _fail(pending, BrokenContract("an answer with neither result nor error"))
        else:
            self._finish(pending, message.result)
        return True

    def _finish(self, pending: _Pending, result: Raw) -> None:
        try:
            pending.answer.set_result(self._results.read(pending.tool, result))
        except Exception as error:  # noqa: BLE001 - the error belongs to the call, not to the reader of the pipe
            _fail(pending, error)

    def _take_progress(self, given: Any) -> bool:
        if given is None:
            return False
        token, progress = given
        number = number_of(token)
        if number is None or number < FIRST_ID:
            return False
        pending = self._pending.get(number)
        if pending is not None and pending.on_progress is not None:
            tell(pending.on_progress, progress)
        return True

    def take_too_long(self, head: bytes, tail: bytes) -> None:
        """Fail the call whose answer is over the bound, where its ends tell which it is."""
        for number in map(int, _ID.findall(head[:64]) + _ID.findall(tail[-64:])):
            pending = self._pending.pop(number, None)
            if pending is not None:
                _fail(pending, self._results.too_large())


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)


def _parsed(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error
