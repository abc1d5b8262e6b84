"""Answers governance's probes: does the server behind a tool answer now, and list what was registered?"""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus, Delivery, Reply, Subscription
from mcp_federation.contract.mcp import hints
from mcp_federation.contract.messages import Probe, ProbeAnswer, decode, encode
from mcp_federation.contract.subjects import PROBE
from mcp_federation.errors import FederationError, ServerUnavailable
from mcp_federation.node.publication.registrar import Registrar
from mcp_federation.node.publication.samples import sample_arguments
from mcp_federation.node.servers.server import SupervisedServer
from mcp_federation.node.tools import LocalTool

LIST_TIMEOUT: Final = 10.0
CALL_TIMEOUT: Final = 10.0


class Probing:
    """The responder of one process of a node. Probes of one server at a time share one look at its list."""

    def __init__(
        self,
        bus: Bus,
        node: str,
        instance: str,
        registrar: Registrar,
        servers: Mapping[str, SupervisedServer],
    ) -> None:
        self._bus = bus
        self._subject = PROBE.of(node, instance)
        self._registrar = registrar
        self._servers = servers
        self._looks: dict[str, asyncio.Task[float]] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Answer from now on."""
        self._subscription = await self._bus.respond(self._subject, self._answer)

    async def stop(self) -> None:
        """Answer no more."""
        if self._subscription is not None:
            await self._subscription.close()
        for look in list(self._looks.values()):
            await stop_task(look)

    async def _answer(self, delivery: Delivery) -> Reply:
        probe = decode(delivery.payload, Probe)
        return Reply(encode(await self._probe(probe)))

    async def _probe(self, probe: Probe) -> ProbeAnswer:
        server = self._servers.get(self._registrar.holder(probe.name) or "")
        if server is None:
            return ProbeAnswer(problem="the node has no server with that tool")
        try:
            seconds = await asyncio.shield(self._look(server))
        except ServerUnavailable as error:
            return ProbeAnswer(problem=error.message)
        tool = next((tool for tool in server.tools if tool.tool.name == probe.name), None)
        answer = ProbeAnswer(digest=tool.digest if tool else None, list_ms=1000 * seconds)
        if tool is None or not probe.call_read_only or hints(tool.tool).get("readOnlyHint") is not True:
            return answer
        return await _called(answer, server, tool)

    def _look(self, server: SupervisedServer) -> asyncio.Task[float]:
        task = self._looks.get(server.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(_timed(server))
            self._looks[server.name] = task
            task.add_done_callback(lambda _: self._looks.pop(server.name, None))
        return task


async def _timed(server: SupervisedServer) -> float:
    clock = asyncio.get_running_loop().time
    began = clock()
    await server.look_again(LIST_TIMEOUT)
    return clock() - began


async def _called(answer: ProbeAnswer, server: SupervisedServer, tool: LocalTool) -> ProbeAnswer:
    clock = asyncio.get_running_loop().time
    began = clock()
    arguments = sample_arguments(msgspec.json.decode(tool.tool.input_schema))
    try:
        await server.call(tool.remote_name, arguments, CALL_TIMEOUT)
    except FederationError as error:
        return msgspec.structs.replace(answer, call_problem=error.message[:500])
    return msgspec.structs.replace(answer, call_ms=1000 * (clock() - began))
