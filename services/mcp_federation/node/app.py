"""The node's composition root."""

import asyncio
import logging
import uuid
from collections.abc import Iterator

from msgspec.structs import replace

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Presence, RefusedTool, ServerState
from mcp_federation.errors import InvalidRequest
from mcp_federation.logs import get_logger
from mcp_federation.node.execution.executor import Executor
from mcp_federation.node.publication.keeper import Keeper
from mcp_federation.node.publication.presence import Heartbeat
from mcp_federation.node.publication.probing import Probing
from mcp_federation.node.publication.registrar import Registrar
from mcp_federation.node.publication.service_api import ServiceApi
from mcp_federation.node.publication.submissions import Submissions
from mcp_federation.node.servers.config import Spec, load_config
from mcp_federation.node.servers.faults import without_last_words
from mcp_federation.node.servers.server import SupervisedServer
from mcp_federation.node.servers.toolboxes import ToolboxSpec, load_toolboxes
from mcp_federation.privacy.publisher import RecordPublisher
from mcp_federation.privacy.sharing import SharingPolicy
from mcp_federation.process import connected
from mcp_federation.settings import Settings
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import read_trusted_keys
from mcp_federation.version import VERSION

log = get_logger("node")

MAX_SHOWN_NAME = 256

WITHDRAW_AFTER = 10.0
"""Seconds that a failed server's tools stay published, since most come back at once."""

DECISION_PATIENCE = 30.0
"""Seconds after which a node that starts says that it still waits for governance."""


class Node:
    """One node: its servers, and everything that makes their tools part of the mesh."""

    def __init__(self, bus: Bus, settings: Settings, specs: dict[str, Spec | ToolboxSpec]) -> None:
        self._settings = settings
        self._name = settings.node
        self._instance = uuid.uuid4().hex
        self._bus = bus
        self.registrar = Registrar(bus, self._name, specs, self._instance)
        keys = read_trusted_keys(settings.trusted_keys)
        verifier = ApprovalVerifier(keys) if keys else None  # else every entry would look forged
        self._keeper = Keeper(bus, self._name, verifier, self.registrar.restore, self.registrar.restore_all)
        self.servers = {name: self._make_server(name, spec) for name, spec in specs.items()}
        policy = SharingPolicy.of(settings)
        self._records = RecordPublisher(bus, self._name, policy=policy)
        self.executor = Executor(
            bus,
            self._name,
            self._instance,
            self.registrar,
            self.servers,
            self._records,
            default_timeout=settings.call_timeout,
            max_timeout=settings.max_call_timeout,
            max_in_flight=settings.max_in_flight,
            max_payload=settings.max_payload,
            max_depth=settings.max_depth,
        )
        self._submissions = Submissions(bus, self._name, self.registrar, self.servers, self._make_server)
        self._probing = Probing(bus, self._name, self._instance, self.registrar, self.servers)
        self._heartbeat = Heartbeat(bus, self._name, settings.heartbeat, self.presence)
        self._tells_all = policy.sharing == "records"
        self._service_api = ServiceApi(
            bus, self._name, self._instance, (lambda: self.executor.stats) if self._tells_all else None
        )
        self._withdrawals: dict[str, asyncio.TimerHandle] = {}
        self._settling: asyncio.Task[None] | None = None

    def presence(self) -> Presence:
        """How the node is now."""
        return Presence(
            node=self._name,
            instance=self._instance,
            interval=self._settings.heartbeat,
            catalog_hash=self.registrar.published.hash,
            tools=len(self.registrar.published),
            in_flight=self.executor.in_flight,
            servers=tuple(self._told(server.state) for _, server in sorted(self.servers.items())),
            refused=(*self.registrar.refused(), *self._unfit()),
            version=VERSION,
        )

    def _told(self, state: ServerState) -> ServerState:
        return state if self._tells_all else replace(state, reason=without_last_words(state.reason))

    def _unfit(self) -> Iterator[RefusedTool]:
        """The tools that cannot even be asked about, such as one whose name is too long."""
        for server in self.servers.values():
            for name, reason in server.unfit.items():
                yield RefusedTool(name=name[:MAX_SHOWN_NAME], decision="rejected", why=reason)

    async def start(self) -> None:
        """Take up work; servers go on starting behind it."""
        await self._probing.start()
        await self.registrar.start()
        await self._keeper.start()
        await self._records.start()
        for server in self.servers.values():
            server.start()
        await self._submissions.start()
        await self.executor.start()
        await self._service_api.start()
        self._heartbeat.start()
        self._settling = asyncio.get_running_loop().create_task(self._settle())
        log.info("node_started", node=self._name, servers=len(self.servers))

    async def stop(self) -> None:
        """Take no more work, finish what was taken, and leave."""
        await stop_task(self._settling)
        await self._heartbeat.stop()
        await self._submissions.stop()
        await self.executor.stop()
        await self._service_api.stop()
        for handle in self._withdrawals.values():
            handle.cancel()
        await self._probing.stop()
        await self._keeper.stop()
        await self.registrar.stop()
        await asyncio.gather(*(server.stop() for server in self.servers.values()))
        await self._records.stop()
        log.info("node_stopped", node=self._name)

    def _make_server(self, name: str, spec: Spec | ToolboxSpec) -> SupervisedServer:
        return SupervisedServer(
            name,
            spec,
            on_change=self._on_server,
            start_timeout=self._settings.start_timeout,
            poll_interval=self._settings.poll_interval,
            max_concurrency=self._settings.max_concurrency,
            max_payload=self._settings.max_payload,
        )

    def _on_server(self, server: SupervisedServer) -> None:
        if self.servers.get(server.name) is not server:
            return  # a probe of a submission, not one of ours
        failed = server.state.state == "failed"
        if not failed and (handle := self._withdrawals.pop(server.name, None)) is not None:
            handle.cancel()
        if server.state.state == "ready":
            self.registrar.set_tools(server.name, server.tools)
        elif failed and server.name not in self._withdrawals:
            self.registrar.await_server(server.name)
            self._withdrawals[server.name] = asyncio.get_running_loop().call_later(
                WITHDRAW_AFTER, self.registrar.remove_server, server.name
            )
        self._heartbeat.nudge()

    async def _settle(self) -> None:
        servers = list(self.servers.values())
        await asyncio.gather(*(server.settled() for server in servers))
        self.registrar.settle()
        names = [tool.tool.name for server in servers for tool in server.tools]
        while not await self.registrar.wait_decided(names, DECISION_PATIENCE):
            log.warn("verdicts_awaited", node=self._name)
        failed = sorted(server.name for server in servers if server.state.state != "ready")
        log.info("node_ready", node=self._name, tools=len(names), failed=failed)


def read_specs(settings: Settings) -> dict[str, Spec | ToolboxSpec]:
    """The servers that the settings name.

    Raises:
        InvalidRequest: the config file is not one, or two servers share a name.
    """
    specs: dict[str, Spec | ToolboxSpec] = dict(load_config(settings.config)) if settings.config else {}
    for name, toolbox in load_toolboxes(settings.toolboxes).items():
        if name in specs:
            raise InvalidRequest(f"two servers are called {name!r}")
        specs[name] = toolbox
    return specs


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run a node until `stop` is set."""
    specs = read_specs(settings)
    # It logs each line of a server's nonsense with a stack; we say it once.
    logging.getLogger("mcp.client.stdio").setLevel(logging.CRITICAL)
    async with connected(settings, f"node-{settings.node}", stop) as bus:
        node = Node(bus, settings, specs)
        # Starting waits for the catalog, which may not be there yet: a stop must not wait with it.
        tasks = [asyncio.create_task(work) for work in (node.start(), stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                await tasks[0]
                await tasks[1]
        finally:
            for task in tasks:
                await stop_task(task)
            await node.stop()
