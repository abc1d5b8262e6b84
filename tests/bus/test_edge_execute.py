"""`POST /execute` against nodes that are real on the bus, on both buses."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Tool
from mcp_federation.contract.subjects import Header
from mcp_federation.edge import server
from mcp_federation.errors import FederationError, InvalidArguments, Overloaded, ServerUnavailable
from tests.support.edge_mesh import (
    HOME,
    BusNode,
    Edge,
    ensure_streams,
    running_edge,
    schema_of,
    served,
)


async def echo(**arguments: Any) -> dict[str, Any]:
    return {"content": [], "structuredContent": arguments}


ECHO = Tool(name="echo", input_schema=schema_of("zebra", "apple"), parameters=("zebra", "apple"))


@pytest.fixture
async def home(bus: Bus) -> BusNode:
    await ensure_streams(bus)
    node = BusNode(bus)
    await node.start()
    await node.publish(ECHO, echo)
    await node.appear()
    return node


@pytest.fixture
async def edge(bus: Bus, home: BusNode) -> AsyncIterator[Edge]:
    async with running_edge(bus) as running:
        yield running


async def execute(edge: Edge, mcp_name: str, *args: Any, **kwargs: Any) -> Any:
    return await edge.post("/execute", {"mcp_name": mcp_name, "args": list(args), "kwargs": kwargs})


async def test_the_documented_call_gives_the_documented_answer(edge: Edge) -> None:
    answer = await execute(edge, "echo", zebra="inspect", apple="example.txt")
    assert answer.status == 200
    assert answer.json == {
        "result": {"zebra": "inspect", "apple": "example.txt"},
        "node": HOME,
        "tool": "echo",
    }


async def test_a_federated_name_and_a_bare_body_work_as_well(edge: Edge) -> None:
    answer = await edge.post("/execute", {"mcp_name": f"echo@{HOME}"})
    assert answer.json["result"] == {}


async def test_arguments_under_a_wrong_key_never_reach_the_node(edge: Edge, home: BusNode) -> None:
    answer = await edge.post("/execute", {"mcp_name": "echo", "arguments": {"zebra": 1}})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert "`arguments`" in answer.json["detail"]
    assert home.calls == []


async def test_positional_arguments_are_mapped_in_the_servers_order(edge: Edge) -> None:
    assert (await execute(edge, "echo", 1, 2)).json["result"] == {"zebra": 1, "apple": 2}


async def test_too_many_positional_arguments_never_reach_the_node(edge: Edge, home: BusNode) -> None:
    answer = await execute(edge, "echo", 1, 2, 3)
    assert answer.status == 422
    assert answer.json["code"] == "invalid_arguments"
    assert answer.json["parameters"] == ["zebra", "apple"]
    assert home.calls == []


async def test_an_argument_given_twice_never_reaches_the_node(edge: Edge, home: BusNode) -> None:
    answer = await execute(edge, "echo", 1, zebra=2)
    assert (answer.status, answer.json["arguments"]) == (422, ["zebra"])
    assert home.calls == []


async def test_values_go_through_exactly(edge: Edge) -> None:
    values = '{"apple":12345678901234567890123,"zebra":[0.1,"\\u00e9\U0001f980",null]}'
    body = f'{{"mcp_name":"echo","kwargs":{values}}}'
    answer = await edge.post_bytes("/execute", body.encode())
    assert answer.json["result"] == {"apple": 12345678901234567890123, "zebra": [0.1, "é🦀", None]}


async def test_text_results_are_text(edge: Edge, home: BusNode) -> None:
    async def say() -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "hello"}]}

    await home.publish(Tool(name="say"), say)
    await edge.sees_tool(HOME, "say")
    assert (await execute(edge, "say")).json["result"] == "hello"


async def test_a_tool_that_nobody_knows_is_not_found(edge: Edge) -> None:
    for name in ("nothing", "echo@nowhere", "nothing@home"):
        answer = await execute(edge, name)
        assert (answer.status, answer.json["code"]) == (404, "tool_not_found")


async def test_a_described_tool_says_that_nothing_runs_it(edge: Edge, home: BusNode) -> None:
    await home.publish(Tool(name="only_words"))
    await edge.sees_tool(HOME, "only_words")
    answer = await execute(edge, "only_words")
    assert (answer.status, answer.json["code"]) == (409, "not_executable")


async def test_the_callers_timeout_reaches_the_node(edge: Edge, home: BusNode) -> None:
    await edge.post("/execute", {"mcp_name": "echo", "timeout": 1.5})
    assert 1400 < int(home.headers[-1][Header.TIMEOUT_MS]) <= 1500
    await edge.post("/execute", {"mcp_name": "echo"})
    assert 29_000 < int(home.headers[-1][Header.TIMEOUT_MS]) <= 30_000


@pytest.mark.parametrize(
    ("body", "header"), [({}, "1500"), ({"timeout": 20}, "1500"), ({"timeout": 1.5}, "9000")]
)
async def test_of_two_timeouts_the_sooner_reaches_the_node(
    edge: Edge, home: BusNode, body: dict[str, Any], header: str
) -> None:
    call = {"mcp_name": "echo", **body}
    assert (await edge.post("/execute", call, headers={Header.TIMEOUT_MS: header})).status == 200
    assert 1400 < int(home.headers[-1][Header.TIMEOUT_MS]) <= 1500


@pytest.mark.parametrize("header", ["0", "-1", "1.5", "soon", "", "9" * 16, "300001"])
async def test_a_timeout_in_the_header_that_is_none_never_reaches_the_node(
    edge: Edge, home: BusNode, header: str
) -> None:
    answer = await edge.post("/execute", {"mcp_name": "echo"}, headers={Header.TIMEOUT_MS: header})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert home.calls == []


@pytest.mark.parametrize(
    "error",
    [
        InvalidArguments("no", {"path": "/x"}),
        Overloaded("full", {"retry_after_ms": 1500}),
        ServerUnavailable("down"),
    ],
)
async def test_a_nodes_error_reaches_the_caller_with_its_status(
    edge: Edge, home: BusNode, error: FederationError
) -> None:
    async def fail() -> dict[str, Any]:
        raise error

    await home.publish(Tool(name="fail"), fail)
    await edge.sees_tool(HOME, "fail")
    answer = await execute(edge, "fail")
    assert answer.status == error.status
    assert answer.json == {**answer.json, **error.details, "code": error.code, "detail": error.message}
    assert ("Retry-After" in answer.headers) is isinstance(error, Overloaded)


async def test_a_tools_own_error_is_told_as_such(edge: Edge, home: BusNode) -> None:
    async def fail() -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "no such file"}], "isError": True}

    await home.publish(Tool(name="fail"), fail)
    await edge.sees_tool(HOME, "fail")
    answer = await execute(edge, "fail")
    assert (answer.status, answer.json["code"], answer.json["detail"]) == (502, "tool_failed", "no such file")


async def test_a_node_that_is_gone_fails_the_call_at_once(edge: Edge, bus: Bus) -> None:
    gone = BusNode(bus, "gone")
    await gone.publish(Tool(name="lost"), echo)
    await gone.appear()
    await edge.sees_tool("gone", "lost")
    answer = await execute(edge, "lost@gone")
    assert (answer.status, answer.json["code"]) == (503, "node_unavailable")
    (shown,) = (await edge.get("/discover?node=gone")).json
    assert shown["available"] is False


async def full(**_: Any) -> dict[str, Any]:
    raise Overloaded("full")


async def test_a_plain_name_goes_on_to_the_next_provider_of_the_same_tool(
    edge: Edge, home: BusNode, bus: Bus
) -> None:
    there = BusNode(bus, "there")
    await there.start()
    tool = Tool(name="shared", input_schema=schema_of("a", "b"), parameters=("a", "b"))
    for node, handler in ((home, full), (there, echo)):
        await node.publish(tool, handler)
        await edge.sees_tool(node.name, "shared")
    answer = await execute(edge, "shared", 1, 2)
    assert answer.json == {"result": {"a": 1, "b": 2}, "node": "there", "tool": "shared"}


async def test_another_tool_of_the_same_name_never_gets_the_calls(
    edge: Edge, home: BusNode, bus: Bus
) -> None:
    strangers = [BusNode(bus, name) for name in ("eve", "mallory")]
    await home.publish(Tool(name="shared", description="Ours."), full)
    await edge.sees_tool(HOME, "shared")
    for stranger in strangers:
        await stranger.start()
        for name in ("shared", "elsewhere"):
            await stranger.publish(Tool(name=name, description=f"That of {stranger.name}."), echo)
            await edge.sees_tool(stranger.name, name)
    assert (await execute(edge, "shared")).json["code"] == "overloaded"
    answer = await execute(edge, "elsewhere")
    assert (answer.status, answer.json["names"]) == (400, ["elsewhere@eve", "elsewhere@mallory"])


async def test_a_refusal_for_want_of_room_is_told_at_once(edge: Edge, home: BusNode) -> None:
    calls = 0

    async def count(**_: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        raise Overloaded("full", {"retry_after_ms": 10})

    await home.publish(Tool(name="narrow"), count)
    await edge.sees_tool(HOME, "narrow")
    assert (await execute(edge, "narrow")).status == 429
    assert calls == 1


async def test_a_refusal_says_more_than_that_the_next_is_described_only(edge: Edge, bus: Bus) -> None:
    gone, words = BusNode(bus, "gone"), BusNode(bus, "words")
    await gone.publish(Tool(name="shared"), echo)
    await words.publish(Tool(name="shared"))
    await edge.sees_tool("gone", "shared")
    await edge.sees_tool("words", "shared")
    assert (await execute(edge, "shared")).json["code"] == "node_unavailable"


async def test_a_late_answer_is_a_deadline_exceeded(edge: Edge, home: BusNode) -> None:
    forever = asyncio.Event()

    async def wait() -> dict[str, Any]:
        await forever.wait()
        return {"content": []}

    await home.publish(Tool(name="wait"), wait)
    await edge.sees_tool(HOME, "wait")
    answer = await edge.post("/execute", {"mcp_name": "wait", "timeout": 0.05})
    forever.set()
    assert (answer.status, answer.json["code"]) == (504, "deadline_exceeded")


async def test_a_caller_that_hangs_up_cancels_the_execution(edge: Edge, home: BusNode) -> None:
    begun, forever = asyncio.Event(), asyncio.Event()

    async def wait() -> dict[str, Any]:
        begun.set()
        await forever.wait()
        return {"content": []}

    await home.publish(Tool(name="wait"), wait)
    await edge.sees_tool(HOME, "wait")
    async with served(edge) as real, asyncio.timeout(10):
        call = asyncio.create_task(real.execute("wait"))
        await begun.wait()
        call.cancel()
        assert await home.cancelled.get() == home.request_id()
        forever.set()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_many_callers_on_kept_connections_each_get_their_own_answer(edge: Edge) -> None:
    async with served(edge) as real:
        answers = await asyncio.gather(*(real.execute("echo", number) for number in range(100)))
    assert [answer.json["result"]["zebra"] for answer in answers] == list(range(100))


async def test_a_stopping_edge_cancels_what_takes_too_long_and_tells_the_caller(
    edge: Edge, home: BusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GRACE", 0)
    begun, forever = asyncio.Event(), asyncio.Event()

    async def wait() -> dict[str, Any]:
        begun.set()
        await forever.wait()
        return {"content": []}

    await home.publish(Tool(name="wait"), wait)
    await edge.sees_tool(HOME, "wait")
    async with served(edge) as real, asyncio.timeout(10):
        call = asyncio.create_task(real.execute("wait"))
        await begun.wait()
        real.server.stop()
        assert await home.cancelled.get() == home.request_id()
        answer = await call
        forever.set()
    assert (answer.status, answer.json["code"]) == (499, "cancelled")
    assert answer.headers["Content-Type"] == "application/problem+json"
