"""What became of each request id, so that a request that is delivered again never runs again.

Bounded in time, in entries and in bytes. What it has to forget it forgets oldest first, and replies
before ids: an id that is still known never runs twice, even when its reply is no longer kept.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mcp_federation.contract.messages import ErrorReply, encode, error_reply
from mcp_federation.errors import (
    Cancelled,
    DeadlineExceeded,
    FederationError,
    InternalError,
    InvalidRequest,
    OutcomeForgotten,
    error_from,
)

WINDOW = 300.0
"""Seconds for which a finished id is known."""

MAX_ENTRIES = 50_000
MAX_BYTES = 32 * 1024 * 1024
MAX_REPLY = 1024 * 1024
"""A larger reply, in bytes, is not kept, so that one caller does not use up the room of all."""

_REQUEST_ID = re.compile(r"[ -~]{1,64}")
_CANCELLED = error_reply(Cancelled("the execution was cancelled"))
_FAILED = error_reply(InternalError("the node failed to call the tool"))

Outcome = bytes | ErrorReply


@dataclass(slots=True)
class _Running:
    call: int
    waiting: asyncio.Future[Outcome] | None = None


class Outcomes:
    """The memory of one node process; `clock` gives seconds."""

    def __init__(
        self,
        *,
        window: float = WINDOW,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        max_reply: int = MAX_REPLY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window = window
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_reply = max_reply
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._finished: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._kept: OrderedDict[str, tuple[Outcome, int]] = OrderedDict()
        self._next_due = 0.0
        self.kept_bytes = 0

    def __len__(self) -> int:
        """How many finished ids are known."""
        return len(self._finished)

    async def once(
        self, request_id: str, call: int, run: Callable[[], Awaitable[bytes]], timeout: float
    ) -> bytes:
        """The reply of `run()`, which is called for the first delivery of the id alone.

        A repetition waits up to `timeout` seconds for what is running. `call` is what `fingerprint` gives.

        Raises:
            InvalidRequest: the id is none, or was used for another call.
            OutcomeForgotten: it was executed, and the outcome is no longer kept.
            DeadlineExceeded: a repetition waited for too long.
            FederationError: what `run` raised. It is kept too, unless surely nothing ran.
        """
        if not _REQUEST_ID.fullmatch(request_id):
            raise InvalidRequest("a request id is 1 to 64 printable ASCII characters")
        if request_id in self._running or request_id in self._finished:
            return await self._again(request_id, call, run, timeout)
        return await self._first(request_id, call, run)

    async def _again(
        self, request_id: str, call: int, run: Callable[[], Awaitable[bytes]], timeout: float
    ) -> bytes:
        running = self._running.get(request_id)
        if running is not None:
            _check_same(running.call, call)
            return await _wait(running, timeout)
        self._forget()
        if request_id not in self._finished:
            return await self._first(request_id, call, run)
        _check_same(self._finished[request_id][0], call)
        if request_id not in self._kept:
            raise OutcomeForgotten("the request was executed before; its outcome is no longer kept")
        return _give(self._kept[request_id][0])

    async def _first(self, request_id: str, call: int, run: Callable[[], Awaitable[bytes]]) -> bytes:
        running = self._running[request_id] = _Running(call)
        outcome: Outcome = _CANCELLED
        may_have_run = True
        try:
            outcome = reply = await run()
        except FederationError as error:
            outcome, may_have_run = error_reply(error), error.ran is not False
            raise
        except Exception:
            outcome = _FAILED
            raise
        finally:
            del self._running[request_id]
            if may_have_run:
                self._keep(request_id, call, outcome)
            if running.waiting is not None:
                running.waiting.set_result(outcome)
        return reply

    def _keep(self, request_id: str, call: int, outcome: Outcome) -> None:
        self._finished[request_id] = call, self._clock()
        size = len(outcome if isinstance(outcome, bytes) else encode(outcome))
        if size <= self._max_reply:
            self._kept[request_id] = outcome, size
            self.kept_bytes += size
        while self.kept_bytes > self._max_bytes:
            self.kept_bytes -= self._kept.popitem(last=False)[1][1]
        self._forget()

    def _forget(self) -> None:
        now = self._clock()
        while len(self._finished) > self._max_entries or (self._finished and now >= self._next_due):
            request_id, (_, at) = next(iter(self._finished.items()))
            # The oldest is looked at once in its time, rather than at every call.
            self._next_due = at + self._window
            if len(self._finished) <= self._max_entries and now < self._next_due:
                return
            del self._finished[request_id]
            kept = self._kept.pop(request_id, None)
            self.kept_bytes -= kept[1] if kept else 0


def fingerprint(subject: str, payload: bytes) -> int:
    """What tells one call from another; a repetition is the same to the byte.

    Python's own hash, whose key is another one in each process: no caller can make two calls that are alike.
    """
    return hash((subject, payload))


def _check_same(first: int, call: int) -> None:
    if first != call:
        raise InvalidRequest("the request id was used for another call")


async def _wait(running: _Running, timeout: float) -> bytes:
    if running.waiting is None:
        running.waiting = asyncio.get_running_loop().create_future()
    done, _ = await asyncio.wait({running.waiting}, timeout=timeout)
    if not done:
        raise DeadlineExceeded(f"the tool did not answer within {timeout:g} s")
    return _give(running.waiting.result())


def _give(outcome: Outcome) -> bytes:
    if isinstance(outcome, ErrorReply):
        raise error_from(outcome.code, outcome.message, outcome.details)
    return outcome
