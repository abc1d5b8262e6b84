"""A server over SSE: all answers come in one stream, and yet a call that fails is no other call's."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from mcp_federation.errors import FederationError, Overloaded, ServerUnavailable
from mcp_federation.node.servers.config import HttpSpec
from mcp_federation.node.servers.server import SupervisedServer
from tests.support.holding import HELD, Box
from tests.support.http_peer import HttpPeer
from tests.support.node_servers import hurry
from tests.support.session_server import ECHO


class Odd:
    """Answers a text that is the name of a manner in that manner."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.released = asyncio.Event()
        self.held = 0
        self.stream = web.StreamResponse()

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.stream = stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        if self.endpoint:
            await stream.write(f"event: endpoint\ndata: {self.endpoint}\n\n: a note\n\n".encode())
            await asyncio.Event().wait()
        return stream

    async def post(self, request: web.Request) -> web.StreamResponse:
        message = await request.json()
        method, number = message["method"], message.get("id")
        if method == "tools/call":
            return await self.call(request, number, message["params"]["arguments"]["text"])
        if method == "initialize":
            info = {"name": "odd", "version": "1.0.0"}
            started = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": info}
            await self.send(number, result=started)
        elif method == "tools/list":
            await self.send(number, result={"tools": [ECHO]})
        elif number is not None:
            await self.send(number, error={"code": -32601, "message": "Method not found"})
        return web.Response(status=202)

    async def call(self, request: web.Request, number: Any, text: str) -> web.StreamResponse:
        if text == HELD:
            self.held += 1
            await self.released.wait()
        elif text == "release":
            self.released.set()
        elif text.isdecimal():
            return web.Response(status=int(text))
        elif text == "break":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        elif text == "write nonsense":
            await self.stream.write(b"data: nonsense\n\nevent: message\ndata:\n\nevent: ping\ndata: 1\n\n")
        elif text == "write too much":
            text = "x" * 1_000_000
        await self.send(number, result={"content": [{"type": "text", "text": text}]})
        return web.Response(status=202)

    async def send(self, number: Any, **answer: Any) -> None:
        await self.stream.write(
            b"data: %b\n\n" % json.dumps({"jsonrpc": "2.0", "id": number, **answer}).encode()
        )


Make = Callable[..., Awaitable[Box[Odd]]]


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    hurry(monkeypatch)
    async with AsyncExitStack() as stack:

        async def start(endpoint: str = "/messages?id=1") -> Box[Odd]:
            odd = Odd(endpoint)
            peer = stack.enter_context(HttpPeer({"GET /sse": odd.get, "POST /messages": odd.post}))
            spec = HttpSpec(f"{peer.url}/sse", transport="sse")
            server = SupervisedServer("box", spec, on_change=lambda _: None, max_payload=100_000)
            stack.push_async_callback(server.stop)
            server.start()
            await server.settled()
            return Box(odd, server)

        yield start


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("break", ServerUnavailable, "the connection to the MCP server 'box' failed"),
        ("500", ServerUnavailable, "HTTP status 500"),
        ("429", Overloaded, "as many calls as it takes"),
    ],
)
async def test_a_request_that_fails_costs_its_own_call_only(
    make: Make, text: str, kind: type[FederationError], message: str
) -> None:
    box = await make()
    held = await box.hold()
    with pytest.raises(kind, match=message):
        await box.call(text)
    assert await box.call("release") == "release"
    assert await held == HELD
    assert box.server.state.restarts == 0


async def test_events_that_are_no_messages_disturb_nobody(make: Make) -> None:
    box = await make()
    assert await box.call("write nonsense") == "write nonsense"
    assert box.server.state.restarts == 0


async def test_an_event_over_the_bound_ends_the_stream_and_the_next_call_has_another(make: Make) -> None:
    box = await make()
    with pytest.raises(ServerUnavailable):
        await box.call("write too much")
    assert await box.call("a") == "a"
    assert box.server.state.restarts == 1


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [("", "names no endpoint"), ("http://other.example/messages", "an endpoint that is not its own")],
)
async def test_a_stream_without_an_endpoint_of_its_own_is_not_used(
    make: Make, endpoint: str, reason: str
) -> None:
    box = await make(endpoint)
    assert reason in box.server.state.reason
