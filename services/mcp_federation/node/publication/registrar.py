"""Brings what the node has to what it publishes: asks governance, publishes, withdraws.

Each server says which tools it has; one task works off the difference to what the catalog shows. A
changed tool is withdrawn before its new text goes to governance, since its approval covers the old text
only. What cannot be asked or stored now is tried again. A tool that a person rules on is asked about anew.
"""

import asyncio
from collections.abc import Iterable

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus, Stored
from mcp_federation.catalog.state import DigestSet
from mcp_federation.contract.messages import (
    SERVER_DOWN,
    CatalogEntry,
    RefusedTool,
    Verdict,
    Withdrawal,
    decode_catalog,
    encode,
)
from mcp_federation.contract.subjects import CATALOG, CATALOG_STREAM, EXECUTE
from mcp_federation.errors import FederationError, InvalidRequest, PayloadTooLarge
from mcp_federation.logs import get_logger
from mcp_federation.node.publication.decisions import RENEW_AFTER, Decision
from mcp_federation.node.publication.judgements import Judgements
from mcp_federation.node.publication.progress import RegistrationProgress
from mcp_federation.node.tools import LocalTool

log = get_logger("node")

CATALOG_TIMEOUT = 30.0
AT_ONCE = 16
RETRY_FIRST = 0.5
RETRY_MAX = 2.0


class Registrar:
    """Owns what one node publishes."""

    def __init__(self, bus: Bus, node: str, servers: Iterable[str] = (), instance: str = "") -> None:
        self._bus = bus
        self._node = node
        # Where two servers have a tool of one name, the first has it: `servers` is their order.
        self._wanted: dict[str, dict[str, LocalTool]] = {server: {} for server in servers}
        self._clashes: frozenset[tuple[str, str]] = frozenset()
        self._tools: dict[str, LocalTool] = {}
        self._wake = asyncio.Event()
        self._judgements = Judgements(bus, node, instance, self._wake.set)
        self._renewals: dict[str, float] = {}
        self.published = DigestSet()
        self._servers_before: dict[str, str] = {}
        self._awaited: set[str] = set()
        self._down: set[str] = set()
        self._settled = False
        self._problem = ""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn what this node published before, then work in a task of its own."""
        follower = await self._bus.follow(CATALOG_STREAM, self._remember, subject=CATALOG.every(self._node))
        try:
            await follower.caught_up(CATALOG_TIMEOUT)
        finally:
            await follower.close()
        await self._judgements.start()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is published stays so."""
        await self._judgements.stop()
        await stop_task(self._task)

    def set_tools(self, server: str, tools: Iterable[LocalTool]) -> None:
        """These, and no others, are the tools of that server now."""
        self._wanted[server] = {tool.tool.name: tool for tool in tools}
        self._awaited.discard(server)
        self._down.discard(server)
        self._merge()

    def await_server(self, server: str) -> None:
        """The server is down, and may soon be back: its tools stay published meanwhile."""
        self._awaited.add(server)

    def remove_server(self, server: str) -> None:
        """The server stays down: its tools go, until it is back."""
        self._awaited.discard(server)
        self._down.add(server)
        if server in self._wanted:
            self._wanted[server] = {}  # it keeps its place, should it come back
        self._merge()

    def settle(self) -> None:
        """Every server has had its chance: what was published before and nobody has now may go."""
        self._settled = True
        self._wake.set()

    def restore(self, name: str) -> None:
        """Publish again what the catalog should have under that name, if this node still has it."""
        if self.get(name) is not None and self._renewals.pop(name, None) is not None:
            self._wake.set()

    def restore_all(self) -> None:
        """Publish again all that this node has: the catalog lost it."""
        for name in list(self._renewals):
            self.restore(name)

    def get(self, name: str) -> LocalTool | None:
        """The tool of that local name, where it is published as it is now."""
        tool = self._tools.get(name)
        return tool if tool is not None and self.published.get(name) == tool.digest else None

    def holder(self, name: str) -> str | None:
        """The server that has the tool of that local name, published or not."""
        tool = self._tools.get(name)
        return tool.server if tool is not None else None

    def is_down(self, name: str) -> bool:
        """Whether the server that had the tool is down, so that only this replica lacks it."""
        return self._servers_before.get(name) in self._awaited | self._down

    def is_open(self, name: str) -> bool:
        """Whether this replica may come to publish the tool soon, as another may have done already."""
        return not self._settled or (name in self._tools and not self._is_done(name))

    def holder_before(self, name: str) -> str | None:
        """The server that the tool of that local name was published for last."""
        return self._servers_before.get(name)

    def refused(self) -> tuple[RefusedTool, ...]:
        """The tools that governance did not approve."""
        return tuple(
            RefusedTool(name=name, decision=decided.verdict.decision, why=decided.why)
            for name, tool in sorted(self._tools.items())
            if (decided := self._judgements.of(tool)) and not decided.approved
        )

    async def wait_decided(self, names: Iterable[str], timeout: float) -> bool:
        """Wait until each of those tools is published or refused; False when `timeout` seconds pass."""
        names = tuple(names)
        try:
            async with asyncio.timeout(timeout):
                while not all(self._is_done(name) for name in names):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def ask(self, tool: LocalTool) -> Verdict:
        """Governance's verdict on a tool; see `Judgements.ask`."""
        return await self._judgements.ask(tool)

    async def _remember(self, stored: Stored) -> None:
        message = decode_catalog(stored.payload)
        if isinstance(message, CatalogEntry):
            self.published.put(message.tool.name, message.digest)
            self._servers_before[message.tool.name] = message.server
        else:
            self.published.drop(message.name)

    def _merge(self) -> None:
        tools: dict[str, LocalTool] = {}
        clashes: set[tuple[str, str]] = set()
        for server, wanted in self._wanted.items():
            for name, tool in wanted.items():
                if tools.setdefault(name, tool) is not tool:
                    clashes.add((name, server))
        for name, server in sorted(clashes - self._clashes):
            log.error("name_taken", tool=name, server=server, holder=tools[name].server)
        self._clashes = frozenset(clashes)
        self._tools = tools
        self._wake.set()

    def _is_done(self, name: str) -> bool:
        tool = self._tools.get(name)
        if tool is None:
            return False
        decided = self._judgements.of(tool)
        refused = decided is not None and not decided.approved
        return refused or (self.published.get(name) == tool.digest and name in self._renewals)

    async def _run(self) -> None:
        pause = RETRY_FIRST
        while True:
            self._wake.clear()
            done = await self._reconcile()
            self._changed.set()
            self._changed = asyncio.Event()
            try:
                async with asyncio.timeout(self._until_renewal() if done else pause):
                    await self._wake.wait()
                pause = RETRY_FIRST
            except TimeoutError:
                pause = RETRY_FIRST if done else min(2 * pause, RETRY_MAX)

    def _until_renewal(self) -> float:
        """Seconds until a decision is to be renewed."""
        now = asyncio.get_running_loop().time()
        times = (decided.renew_at for tool in self._tools.values() if (decided := self._judgements.of(tool)))
        return max(RETRY_FIRST, min(times, default=now + RENEW_AFTER) - now)

    async def _reconcile(self) -> bool:
        """One pass over the difference; False where something could not be done yet."""
        gate = asyncio.Semaphore(AT_ONCE)
        names = sorted(name for name in {*self._tools, *self.published} if self._is_due(name))
        progress = RegistrationProgress(len(names))
        problems: list[str] = []

        async def attempt(name: str) -> None:
            async with gate:
                try:
                    await self._bring(name)
                except FederationError as error:
                    problems.append(error.message)
                except Exception as error:
                    # One tool must not keep the others from being published.
                    log.exception("registration_failed", tool=name)
                    problems.append(type(error).__name__)
                progress.step()

        await asyncio.gather(*map(attempt, names))
        if problems and problems[0] != self._problem:
            log.warn("registrations_delayed", tools=len(problems), reason=problems[0])
        self._problem = problems[0] if problems else ""
        return not problems

    def _is_due(self, name: str) -> bool:
        tool = self._tools.get(name)
        if tool is None:
            awaited = self._servers_before.get(name) in self._awaited
            return self._settled and self.published.get(name) is not None and not awaited
        decided = self._judgements.standing(tool)
        if decided is None:
            return True
        if not decided.approved:
            return self.published.get(name) is not None
        return self.published.get(name) != tool.digest or self._renewals.get(name) != decided.at

    async def _bring(self, name: str) -> None:
        """Make the catalog show of one tool what it should."""
        tool = self._tools.get(name)
        if tool is None:
            is_down = self._servers_before.get(name) in self._down
            await self._withdraw(name, SERVER_DOWN if is_down else "the node no longer has it")
            self._judgements.forget(name)
            return
        published = self.published.get(name)
        if published is not None and published != tool.digest:
            await self._withdraw(name, "it changed, and awaits approval")
        decided = self._judgements.standing(tool)
        if decided is None:
            try:
                await self.ask(tool)
            except (InvalidRequest, PayloadTooLarge) as error:
                self._judgements.refuse(tool, error)  # it will be no better the next time
            decided = self._judgements.standing(tool)
        if decided is None or self._tools.get(name) is not tool:
            return  # it changed while governance looked: the next pass has it
        if decided.approved:
            await self._publish(tool, decided)
        else:
            log.warn("tool_refused", tool=name, decision=decided.verdict.decision, why=decided.why)
            if self.published.get(name) is not None:
                await self._withdraw(name, f"governance: {decided.verdict.decision}")

    async def _publish(self, tool: LocalTool, decided: Decision) -> None:
        name = tool.tool.name
        entry = CatalogEntry(
            node=self._node,
            tool=tool.tool,
            digest=tool.digest,
            approval=decided.verdict.approval or "",
            assessment=decided.verdict.assessment,
            execute_subject=EXECUTE.of(self._node, name) if tool.executable else None,
            server=tool.server,
            source_repo=tool.source_repo,
        )
        await self._bus.store(CATALOG.of(self._node, name), encode(entry))
        self.published.put(name, tool.digest)
        self._servers_before[name] = tool.server
        self._renewals[name] = decided.at
        log.info("tool_published", tool=name, digest=tool.digest)

    async def _withdraw(self, name: str, reason: str) -> None:
        withdrawal = Withdrawal(node=self._node, name=name, reason=reason)
        await self._bus.store(CATALOG.of(self._node, name), encode(withdrawal))
        self.published.drop(name)
        self._renewals.pop(name, None)
        log.info("tool_withdrawn", tool=name, reason=reason)
