"""A live copy of the catalog: replays what is published, follows it, believes only what is approved.

Edge, engine and client hold one each. It notices what it missed by the hash in each node's presence,
and marks a node that fell silent as unavailable: listed, not offered.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus, Delivery, Follower, Stored, Subscription
from mcp_federation.catalog.state import CatalogState, CatalogTool
from mcp_federation.contract.messages import (
    Assessment,
    Cancel,
    CatalogEntry,
    Presence,
    Ruling,
    decode,
    decode_catalog,
    encode,
)
from mcp_federation.contract.subjects import (
    CANCEL,
    CATALOG,
    CATALOG_STREAM,
    EXECUTE,
    PRESENCE,
    RULING,
    RULING_STREAM,
)
from mcp_federation.errors import (
    ApprovalRefused,
    DeadlineExceeded,
    FederationError,
    InvalidRequest,
    NodeUnavailable,
)
from mcp_federation.logs import get_logger
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.policy import Policy, Subject, weigh

log = get_logger("catalog")

MISSED_HEARTBEATS = 3
FIRST_INTERVAL = 2.0
"""The heartbeat, in seconds, that a node is assumed to have before it was first heard."""

ASK_TIMEOUT = 0.25
"""Seconds in which the broker says that nobody listens; who listens says nothing."""

REPLAY_TIMEOUT = 10.0
MISMATCHES = 2
"""Heartbeats in a row with another hash before a node is replayed: entries may still be on their way."""


class CatalogReplica:
    """Start it, read it synchronously, stop it. Reads never touch the bus.

    `imports` is a policy of one's own over what governance saw: stricter than governance's, it leaves
    out tools that governance approved.
    """

    def __init__(self, bus: Bus, verifier: ApprovalVerifier, imports: Policy | None = None) -> None:
        self._bus = bus
        self._verifier = verifier
        self._imports = imports
        self.state = CatalogState()
        self._follower: Follower | None = None
        self._rulings: Follower | None = None
        self._presence: Subscription | None = None
        self._silence: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._replays: dict[str, asyncio.Task[None]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._changed = asyncio.Event()

    async def start(self, timeout: float = REPLAY_TIMEOUT) -> None:
        """Follow the catalog, and wait until all that is published now has been read.

        Raises:
            DeadlineExceeded: that took longer than `timeout` seconds, or there is no catalog yet.
        """
        self._presence = await self._bus.subscribe(PRESENCE.every(), self._on_presence, limit=1)
        deadline = asyncio.get_running_loop().time() + timeout
        # First what was revoked: nothing of it is offered, not even for a moment.
        self._rulings = await self._bus.follow(RULING_STREAM, self._on_ruling)
        await self._rulings.caught_up(timeout)
        self._follower = await self._bus.follow(CATALOG_STREAM, self._on_stored, on_anew=self._on_anew)
        await self._follower.caught_up(max(0.0, deadline - asyncio.get_running_loop().time()))

    async def stop(self) -> None:
        """Stop following."""
        for task in list(self._replays.values()):
            await stop_task(task)
        for handle in self._silence.values():
            handle.cancel()
        for subscription in (self._follower, self._rulings, self._presence):
            if subscription is not None:
                await subscription.close()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of the tools, or of whether a node is available.

        It is called from the event loop, and must not block or raise.
        """
        self._listeners.append(listener)

    async def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition on the replica holds; whether it did within `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._changed.wait()
                return True
        return condition()

    def note_unavailable(self, node: str) -> None:
        """A call found nobody there: the node is unavailable until it is heard of again."""
        state = self.state.nodes.get(node)
        if state is not None and state.available:
            log.info("node_unavailable", node=node, reason="nobody answers")
            for instance in list(state.instances):
                self._forget_instance(node, instance)
            state.available = False
            self._notify()

    async def note_absent(self) -> None:
        """Mark the nodes that run tools, were not heard of yet, and are not there; at most `ASK_TIMEOUT` s.

        A replica that just started would take a node that died before for available, until it missed its
        heartbeats.
        """
        nodes = {tool.node for tool in self.state.tools() if tool.executable}
        await asyncio.gather(*(self._ask(node) for node in nodes if not self.state.instances(node)))

    async def _ask(self, node: str) -> None:
        """Cancel a request that nobody made: a node ignores it, the broker tells where there is none."""
        nothing = encode(Cancel(request_id=uuid4().hex))
        try:
            await self._bus.request(CANCEL.of(node), nothing, timeout=ASK_TIMEOUT)
        except NodeUnavailable:
            self.note_unavailable(node)
        except FederationError:
            return  # it listens, or we cannot tell

    async def _on_stored(self, stored: Stored) -> None:
        self._apply(stored)

    async def _on_anew(self) -> None:
        # What is known stays: nodes publish it again, or their presence tells that it is gone.
        self.state.begin_anew()

    async def _on_ruling(self, stored: Stored) -> None:
        ruling = self._verifier.seals.open(stored.payload, Ruling)
        RULING.check(stored.subject, ruling.node, ruling.name)
        if self.state.revoke(ruling.node, ruling.name, ruling.revoked_before):
            log.info("approval_revoked", node=ruling.node, tool=ruling.name)
            self._notify()

    def _apply(self, stored: Stored) -> str | None:
        """Take a stored catalog message in; the tool's name where the message is sound."""
        node, name = CATALOG.parse(stored.subject)
        message = decode_catalog(stored.payload)
        if isinstance(message, CatalogEntry):
            if (message.node, message.tool.name) != (node, name):
                raise InvalidRequest("the entry is of another tool than its subject")
            if message.execute_subject not in (None, EXECUTE.of(node, name)):
                raise InvalidRequest("the entry sends calls elsewhere than to its own tool")
            known_node = node in self.state.nodes
            applied = self.state.publish(message, stored.sequence, self._verify(message))
            if not known_node:
                self._expect_heartbeat(node, "", FIRST_INTERVAL)
        else:
            applied = self.state.withdraw(node, name, stored.sequence, message.reason)
        if applied:
            self._notify()
        return name if isinstance(message, CatalogEntry) else None

    def _verify(self, entry: CatalogEntry) -> CatalogTool | str:
        try:
            validity = self._verifier.verify(entry)
            self._admit(entry)
            return CatalogTool(entry, validity.expires, validity.issued)
        except (ApprovalRefused, InvalidRequest) as error:
            log.warn("entry_refused", node=entry.node, tool=entry.tool.name, reason=error.message)
            return error.message

    def _admit(self, entry: CatalogEntry) -> None:
        """Raise `ApprovalRefused` where the import policy would not have approved the tool."""
        if self._imports is None:
            return
        assessment = Assessment() if entry.assessment is None else decode(bytes(entry.assessment), Assessment)
        subject = Subject(
            entry.node, entry.tool.name, entry.digest, assessment.checks, reviewer=assessment.reviewer
        )
        judgement = weigh(assessment.findings, self._imports, subject)
        if judgement.decision != "approved":
            raise ApprovalRefused(f"the import policy: {'; '.join(judgement.reasons)}")

    async def _on_presence(self, delivery: Delivery) -> None:
        presence = decode(delivery.payload, Presence)
        PRESENCE.check(delivery.subject, presence.node)
        state = self.state.node(presence.node)
        was_available = state.available
        self._forget_instance(presence.node, "")
        self._forget_instance(presence.node, presence.instance)
        if presence.status == "up":
            state.instances[presence.instance] = presence
            self._expect_heartbeat(presence.node, presence.instance, presence.interval)
        state.available = bool(state.instances)
        if state.available != was_available:
            log.info("node_available" if state.available else "node_left", node=presence.node)
        self._compare(presence)
        self._notify(listeners=state.available != was_available)

    def _expect_heartbeat(self, node: str, instance: str, interval: float) -> None:
        loop = asyncio.get_running_loop()
        self._silence[node, instance] = loop.call_later(
            MISSED_HEARTBEATS * interval, self._on_silence, node, instance
        )

    def _on_silence(self, node: str, instance: str) -> None:
        self._forget_instance(node, instance)
        state = self.state.node(node)
        if state.available and not state.instances:
            state.available = False
            log.info("node_unavailable", node=node, reason=f"silent for {MISSED_HEARTBEATS} heartbeats")
        self._notify()

    def _forget_instance(self, node: str, instance: str) -> None:
        handle = self._silence.pop((node, instance), None)
        if handle is not None:
            handle.cancel()
        self.state.node(node).instances.pop(instance, None)

    def _compare(self, presence: Presence) -> None:
        state = self.state.node(presence.node)
        if presence.status == "leaving" or state.published.hash == presence.catalog_hash:
            state.mismatches = 0
            return
        state.mismatches += 1
        if state.mismatches >= MISMATCHES and presence.node not in self._replays:
            state.mismatches = 0
            task = asyncio.get_running_loop().create_task(self._replay(presence.node))
            self._replays[presence.node] = task
            task.add_done_callback(lambda _: self._replays.pop(presence.node, None))

    async def _replay(self, node: str) -> None:
        """Read all of a node's entries again, and forget what it no longer publishes."""
        log.info("catalog_replayed", node=node, reason="the node publishes something else than is known here")
        names: set[str] = set()
        before = dict(self.state.node(node).sequences)

        async def take(stored: Stored) -> None:
            name = self._apply(stored)
            if name is not None:
                names.add(name)

        follower = await self._bus.follow(CATALOG_STREAM, take, subject=CATALOG.every(node))
        try:
            await follower.caught_up(REPLAY_TIMEOUT)
        except DeadlineExceeded as error:
            log.warn("replay_failed", node=node, reason=error.message)
            return
        finally:
            await follower.close()
        # What came while this was being read is not in it, and stays.
        state = self.state.node(node)
        gone = {name for name in before.keys() - names if state.sequences.get(name) == before[name]}
        self.state.retain(node, set(state.published) - gone)
        self._notify()

    def _notify(self, *, listeners: bool = True) -> None:
        """Wake those who wait for a condition, and call the listeners, where there is something for them."""
        self._changed.set()
        self._changed = asyncio.Event()
        for listener in self._listeners if listeners else ():
            try:
                listener()
            except FederationError as error:
                log.warn("listener_failed", reason=error.message)
