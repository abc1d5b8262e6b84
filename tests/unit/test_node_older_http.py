"""A server of an older revision over HTTP: what one call meets there is no other call's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from mcp_federation.errors import PayloadTooLarge, ServerDown, ServerUnavailable, ToolFailed
from mcp_federation.node.servers import link, session
from mcp_federation.node.servers.calls.sdk import SdkCalls
from mcp_federation.node.servers.config import HttpSpec
from mcp_federation.node.servers.server import SupervisedServer
from tests.support.holding import HELD, Box
from tests.support.http_peer import HttpPeer
from tests.support.node_servers import hurry
from tests.support.session_server import Sessions
from tests.support.waiting import eventually


class Odd(Sessions):
    """Answers a text that is the name of a manner in that manner."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.held = 0
        self.lists_break = False
        self.lists_to_hang = 0

    async def list_tools(self, request: web.Request, number: Any) -> web.StreamResponse:
        if self.lists_break:
            self.lists_break = False
            return await broken(request, "before")
        if self.lists_to_hang:
            self.lists_to_hang -= 1
            await asyncio.Event().wait()
        return await super().list_tools(request, number)

    async def call(self, request: web.Request, number: Any, text: str) -> web.StreamResponse:
        if text == HELD:
            self.held += 1
            await self.released.wait()
        elif text == "release":
            self.released.set()
        elif text == "refuse":
            error = {"code": -32000, "message": "the quota is used up", "data": {"left": 0}}
            return web.json_response({"jsonrpc": "2.0", "id": number, "error": error})
        elif text == "write nonsense":
            return web.Response(body=b'{"result":\xff', content_type="application/json")
        elif text == "go on and on":
            return await endless(request)
        elif text in ("before", "in the middle of"):
            return await broken(request, text)
        return await super().call(request, number, text)


async def endless(request: web.Request) -> web.StreamResponse:
    """Write JSON until nobody reads it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):
        await response.write(b'{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"')
        while True:
            await response.write(b"x" * 65_536)
    return response


async def broken(request: web.Request, when: str) -> web.StreamResponse:
    """End the connection before the answer, or in the middle of it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    if when != "before":
        await response.prepare(request)
        await response.write(b'{"jsonrpc":')
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.fixture
async def box(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Box[Odd]]:
    hurry(monkeypatch)
    odd = Odd()
    with HttpPeer({"POST /mcp": odd.answer}) as peer:
        server = SupervisedServer(
            "box", HttpSpec(f"{peer.url}/mcp"), on_change=lambda _: None, max_payload=1_000_000
        )
        server.start()
        await server.settled()
        assert type(server._link.calls) is SdkCalls
        yield Box(odd, server)
        await server.stop()


@pytest.mark.parametrize("when", ["before", "in the middle of"])
async def test_a_connection_that_ends_before_or_in_an_answer_costs_its_own_call_only(
    box: Box[Odd], when: str
) -> None:
    held = await box.hold()
    with pytest.raises(ServerUnavailable, match="the connection to the MCP server 'box' failed"):
        await box.call(when)
    assert await box.call("release") == "release"
    assert await held == HELD
    assert box.server.state.restarts == 0


async def test_an_answer_that_goes_on_and_on_is_given_up_and_costs_its_own_call_only(box: Box[Odd]) -> None:
    held = await box.hold()
    with pytest.raises(PayloadTooLarge, match="over 1000000 bytes"):
        await box.call("go on and on")
    assert await box.call("release") == "release"
    assert await held == HELD
    assert box.server.state.restarts == 0


async def test_a_list_that_got_lost_leaves_the_calls_under_way_alone(box: Box[Odd]) -> None:
    held = await box.hold()
    box.odd.lists_break = True
    box.server._doubt("")
    await eventually(lambda: box.server.state.restarts)
    assert box.server.state.reason == "" or "cannot be reached" in box.server.state.reason
    assert await box.call("release") == "release"
    assert await held == HELD


async def test_an_error_under_the_code_of_a_closed_connection_is_the_tools_own(box: Box[Odd]) -> None:
    with pytest.raises(ToolFailed, match="the quota is used up"):
        await box.call("refuse")
    assert box.server.state.restarts == 0


async def test_an_answer_that_is_no_json_rpc_is_told_in_our_words(box: Box[Odd]) -> None:
    with pytest.raises(ToolFailed, match="breaks its own contract"):
        await box.call("write nonsense")
    assert box.server.state.restarts == 0


async def test_a_start_that_hangs_is_begun_anew_under_a_call(
    box: Box[Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LIST_TIMEOUT", 0.05)
    monkeypatch.setattr(link, "RECONNECT_TIMEOUT", 0.5)
    box.server._start_timeout = 3600
    box.server._patience = 0.05
    box.odd.lists_to_hang = 2  # that of the poll, and that of the next start
    box.server._doubt("")
    await eventually(lambda: box.odd.lists_to_hang == 0)
    async with asyncio.timeout(10):
        while True:
            with suppress(ServerDown):
                assert await box.call("a") == "a"
                break
