"""When a call is tried again, and under which id: what surely did not run, or may run twice. Pure."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

from tenacity import RetryCallState
from tenacity.wait import wait_random_exponential

from mcp_federation.bus.blobs import Offer
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.contract.mcp import hints
from mcp_federation.contract.messages import Progress
from mcp_federation.errors import (
    BusUnavailable,
    ConnectionLost,
    FederationError,
    NodeLost,
    NodeUnavailable,
    Overloaded,
    ServerDown,
    ServerUnavailable,
)

OnProgress = Callable[[Progress], None]

MAX_TRIES = 3
"""How often each provider of a tool is asked, the first time included."""

MAX_DEATHS = 2
"""How many servers or nodes may go away under a call: it may be the call that they die of."""

RECONNECT_PAUSE = 0.3
"""Seconds that a lost connection is given before the next try."""

MAX_WAITS = 8
"""How often each provider is asked that is overloaded, the first time included."""

# The first two pauses are up to 0.1 and 0.2 s: a node that is gone is told within 0.3 s.
_jitter = wait_random_exponential(multiplier=0.1, max=2)


def check_callback(on_progress: OnProgress) -> None:
    """Refuse a callback that would have to be awaited.

    Raises:
        TypeError: it is a coroutine function, or an object that is called as one.
    """
    if iscoroutinefunction(on_progress) or iscoroutinefunction(type(on_progress).__call__):
        raise TypeError("on_progress must be a plain function: it is called, and not awaited")


def new_request_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and ordered by time."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    text = f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Allowance:
    """How often the calls of one client may ask overloaded providers again: more often as those answer.

    Under a lasting overload a try only takes the place of another call: then there is one more for every ten
    answers (as with gRPC's retry throttling, gRFC A6). A client begins with `FIRST`.
    """

    FIRST = 100.0
    EARNED = 0.1

    def __init__(self) -> None:
        self._left = self.FIRST

    def earn(self) -> None:
        """A call was answered."""
        self._left = min(self._left + self.EARNED, self.FIRST)

    def take(self) -> bool:
        """Whether one more try is allowed; then it is taken."""
        allowed = self._left >= 1
        self._left -= allowed
        return allowed


@dataclass(slots=True)
class Call:
    """One call over all its tries; `deadline` is in `time.monotonic()`."""

    providers: list[CatalogTool]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    deadline: float
    allowance: Allowance
    on_progress: OnProgress | None = None
    errors: list[FederationError] = field(default_factory=list)
    offer: Offer | None = None
    """The arguments, where they do not fit a message. They are kept from one try on a node to the next: the
    first may still be under way there, and is the one that runs."""

    _request_ids: dict[str, str] = field(default_factory=dict)

    def request_id(self, tool: CatalogTool) -> str:
        """The same for every try on a node, so that the node runs it at most once."""
        return self._request_ids.get(tool.node) or self._request_ids.setdefault(tool.node, new_request_id())

    def doubt(self, tool: CatalogTool) -> None:
        """An instance of the tool's node has the call and seems to hang: as if the node were lost with it."""
        if self._request_ids.pop(tool.node, None) is not None:  # what has that id is cancelled at the end
            self.errors.append(NodeLost(f"the node {tool.node!r} does not answer", {"node": tool.node}))

    def end(self) -> None:
        """Keep nothing of it."""
        if self.offer is not None:
            self.offer.release()
        # An error holds the frames that it came through, and they the call: a circle around the payload.
        self.errors.clear()

    def may_go_on(self, error: FederationError, tool: CatalogTool) -> bool:
        """Whether the call may be tried again after this error, on whatever node."""
        if isinstance(error, NodeUnavailable | Overloaded | ServerDown):
            return True
        if isinstance(error, ServerUnavailable):
            # An outcome: under the same id the node would only repeat it.
            self._request_ids.pop(tool.node, None)
        if isinstance(error, BusUnavailable):
            return any(isinstance(before, ConnectionLost) for before in self.errors)
        if isinstance(error, NodeLost | ServerUnavailable) and self._deaths >= MAX_DEATHS:
            return False
        return isinstance(error, ConnectionLost | NodeLost | ServerUnavailable) and is_repeatable(tool)

    def pause(self, state: RetryCallState) -> float:
        """Seconds until the next try: full jitter, on top of what the errors ask for."""
        return _jitter(state) + self._asked_pause

    def is_over(self, state: RetryCallState) -> bool:
        """Whether the tries are used up, or the next would be beyond the deadline."""
        refused = isinstance(self.errors[-1], Overloaded)
        used_up = state.attempt_number >= (MAX_WAITS if refused else MAX_TRIES)
        if used_up or time.monotonic() + state.upcoming_sleep >= self.deadline:
            return True
        return refused and not self.allowance.take()

    @property
    def _deaths(self) -> int:
        gone = (error for error in self.errors if isinstance(error, NodeLost | ServerUnavailable))
        return sum(error.ran is not False for error in gone)

    @property
    def _asked_pause(self) -> float:
        return max(map(_asked_pause, self.errors[-len(self.providers) :]))

    @property
    def refusal(self) -> FederationError:
        """The last error; one after which the tool may have run comes before all others."""
        unsure = [error for error in self.errors if error.ran is not False]
        return (unsure or self.errors)[-1]


def is_repeatable(tool: CatalogTool) -> bool:
    """Whether the tool declares that running it again does nothing more."""
    declared = hints(tool.tool)
    return any(declared.get(hint) is True for hint in ("readOnlyHint", "idempotentHint"))


def _asked_pause(error: FederationError) -> float:
    if isinstance(error, ConnectionLost | BusUnavailable):
        return RECONNECT_PAUSE
    hint = error.details.get("retry_after_ms") if isinstance(error, Overloaded) else None
    # A huge whole number cannot become a float.
    return min(max(hint, 0), 3_600_000) / 1000 if isinstance(hint, int | float) else 0
