"""An MCP server that holds one call back until another releases it, with its supervision."""

import asyncio
from typing import Generic, Protocol, TypeVar

from mcp_federation.contract.mcp import decode_result
from mcp_federation.node.servers.server import SupervisedServer
from tests.support.waiting import eventually

HELD = "held"
"""The text that a call is held back for, until one calls with 'release'."""


class Holding(Protocol):
    """A server that counts the calls which it holds back."""

    held: int


S = TypeVar("S", bound=Holding)


class Box(Generic[S]):
    """The server, and its supervision."""

    def __init__(self, odd: S, server: SupervisedServer) -> None:
        self.odd = odd
        self.server = server

    async def call(self, text: str) -> str:
        return decode_result((await self.server.call("echo", {"text": text}, 10)).result).text

    async def hold(self) -> "asyncio.Task[str]":
        """A call that is under way until 'release' is called."""
        held = asyncio.create_task(self.call(HELD))
        await eventually(lambda: self.odd.held)
        return held
