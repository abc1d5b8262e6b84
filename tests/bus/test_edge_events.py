"""`POST /execute` as a stream of events: progress as it comes, and the outcome at last."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Progress, Tool
from mcp_federation.edge import events
from mcp_federation.errors import Overloaded
from tests.support.edge_mesh import HOME, BusNode, Edge, ensure_streams, running_edge, served

STREAM = {"Accept": "application/json;q=0.5, text/event-stream"}
STEPS = [Progress(progress=float(step), total=4.0, message="größer\nund weiter") for step in range(5)]


async def done() -> dict[str, Any]:
    return {"content": [{"type": "text", "text": "done"}]}


@pytest.fixture
async def home(bus: Bus) -> BusNode:
    await ensure_streams(bus)
    node = BusNode(bus)
    await node.start()
    await node.publish(Tool(name="count"), done)
    await node.appear()
    return node


@pytest.fixture
async def edge(bus: Bus, home: BusNode) -> AsyncIterator[Edge]:
    async with running_edge(bus) as running:
        await running.sees_tool(HOME, "count")
        yield running


def read(body: bytes) -> list[tuple[str, Any]]:
    """Name and data of each event."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))))
    return found


async def test_progress_comes_in_order_and_the_result_last(edge: Edge, home: BusNode) -> None:
    home.steps = STEPS
    answer = await edge.post("/execute", {"mcp_name": "count"}, headers=STREAM)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    *steps, last = read(answer.body)
    assert [(name, data["progress"], data["message"]) for name, data in steps] == [
        ("progress", step.progress, step.message) for step in STEPS
    ]
    assert last == ("result", {"result": "done", "node": HOME, "tool": "count"})


async def test_an_error_after_the_first_event_is_the_last_event(edge: Edge, home: BusNode) -> None:
    async def fail() -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "no more paper"}], "isError": True}

    home.steps = STEPS[:1]
    await home.publish(Tool(name="print"), fail)
    await edge.sees_tool(HOME, "print")
    answer = await edge.post("/execute", {"mcp_name": "print"}, headers=STREAM)
    assert answer.status == 200
    (first, _), (last, problem) = read(answer.body)
    assert (first, last) == ("progress", "error")
    assert (problem["status"], problem["code"], problem["detail"]) == (502, "tool_failed", "no more paper")


async def test_an_error_ahead_of_all_events_keeps_its_status(edge: Edge, home: BusNode) -> None:
    async def refuse() -> dict[str, Any]:
        raise Overloaded("too many", {"retry_after_ms": 4000})

    await home.publish(Tool(name="busy"), refuse)
    await edge.sees_tool(HOME, "busy")
    answer = await edge.post("/execute", {"mcp_name": "busy"}, headers=STREAM)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "4")
    assert (await edge.post("/execute", {"mcp_name": "none"}, headers=STREAM)).status == 404
    assert (await edge.post("/execute", {"mcp_name": 1}, headers=STREAM)).status == 400


async def test_a_plain_call_asks_for_no_progress(edge: Edge, home: BusNode) -> None:
    home.steps = STEPS
    answer = await edge.post("/execute", {"mcp_name": "count"})
    assert answer.json["result"] == "done"


async def test_a_silent_tool_keeps_the_line_alive(
    edge: Edge, home: BusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.01)
    heard = asyncio.Event()

    async def wait() -> dict[str, Any]:
        await heard.wait()
        return {"content": []}

    await home.publish(Tool(name="wait"), wait)
    await edge.sees_tool(HOME, "wait")
    async with (
        served(edge) as real,
        asyncio.timeout(10),
        real.session.post(real.url + "/execute", json={"mcp_name": "wait"}, headers=STREAM) as response,
    ):
        assert await response.content.readline() == b":\n"
        heard.set()
        assert read(b":\n" + await response.read())[-1][0] == "result"


async def test_a_listener_that_hangs_up_cancels_the_execution(edge: Edge, home: BusNode) -> None:
    home.steps = STEPS[:1]
    forever = asyncio.Event()

    async def wait() -> dict[str, Any]:
        await forever.wait()
        return {"content": []}

    await home.publish(Tool(name="wait"), wait)
    await edge.sees_tool(HOME, "wait")
    async with served(edge) as real, asyncio.timeout(10):
        async with real.session.post(
            real.url + "/execute", json={"mcp_name": "wait"}, headers=STREAM
        ) as response:
            assert await response.content.readline() == b"event: progress\n"
        assert await home.cancelled.get() == home.request_id()
        forever.set()


async def test_who_refuses_events_gets_none(edge: Edge, home: BusNode) -> None:
    headers = {"Accept": "text/event-stream;q=0.0, application/json"}
    answer = await edge.post("/execute", {"mcp_name": "count"}, headers=headers)
    assert answer.json["result"] == "done"
