import asyncio
from typing import Any, cast

import pytest

from mcp_federation.bus import handling
from mcp_federation.bus.memory import MemoryBus
from mcp_federation.contract.messages import Probe, encode
from mcp_federation.contract.subjects import PROBE
from mcp_federation.node.publication.probing import Probing
from tests.support.waiting import eventually


class MuteServer:
    """A server that never lists its tools again."""

    name = "mute"

    def __init__(self) -> None:
        self.looks = 0

    def holder(self, tool: str) -> str:
        """As the registrar of a node whose tools are all this server's."""
        return self.name

    async def look_again(self, timeout: float) -> None:
        self.looks += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.looks -= 1


async def test_probing_that_stops_leaves_no_look_at_a_server_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling.Tasks.finish, "__defaults__", (0.01,))
    server = MuteServer()
    async with MemoryBus() as bus, asyncio.TaskGroup() as tasks:
        probing = Probing(bus, "acme", "one", cast(Any, server), {server.name: cast(Any, server)})
        await probing.start()
        probe = encode(Probe(name="mute.say"))
        asked = tasks.create_task(bus.request(PROBE.of("acme", "one"), probe, timeout=5))
        await eventually(lambda: server.looks == 1)
        await probing.stop()
        assert server.looks == 0
        asked.cancel()
