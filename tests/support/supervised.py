"""A supervised server as a test watches it: every state that it goes through, and its tools called."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp_federation.contract.mcp import CallResult, decode_result
from mcp_federation.contract.messages import ServerState
from mcp_federation.node.servers.server import SupervisedServer


class Watched:
    """A supervised server, and every state that it went through."""

    def __init__(self, spec: Any, **times: Any) -> None:
        self.states: list[ServerState] = []
        self._read = 0
        self._changed = asyncio.Event()
        chosen = {"start_timeout": 10.0, "poll_interval": 60.0, **times}
        self.server = SupervisedServer("box", spec, on_change=self._on_change, **chosen)

    def _on_change(self, server: SupervisedServer) -> None:
        self.states.append(server.state)
        self._changed.set()

    @property
    def names(self) -> set[str]:
        return {tool.tool.name for tool in self.server.tools}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_state(self, state: str) -> ServerState:
        """The next such state, behind the one that was waited for last."""
        async with asyncio.timeout(10):
            while True:
                while self._read < len(self.states):
                    self._read += 1
                    if self.states[self._read - 1].state == state:
                        return self.states[self._read - 1]
                self._changed.clear()
                await self._changed.wait()

    async def call(self, tool: str, timeout: float = 10, **arguments: Any) -> CallResult:
        return decode_result((await self.server.call(tool, arguments, timeout)).result)

    async def seen(self) -> Any:
        return (await self.call("seen")).structured_content


Run = Callable[..., Awaitable[Watched]]


@asynccontextmanager
async def supervising() -> AsyncIterator[Run]:
    """Starts a server and waits until it is ready or has failed; stops all that it started."""
    started: list[Watched] = []

    async def run(spec: Any, **times: Any) -> Watched:
        watched = Watched(spec, **times)
        started.append(watched)
        watched.server.start()
        await watched.server.settled()
        return watched

    yield run
    await asyncio.gather(*(watched.server.stop() for watched in started))
