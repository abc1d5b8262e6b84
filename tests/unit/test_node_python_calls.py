"""Python toolboxes are called past the SDK's client, and answer as if it had called them."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio.from_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ElicitRequest, ElicitRequestFormParams, InputRequiredResult, TextContent
from structlog.testing import capture_logs

from mcp_federation.contract.messages import Progress
from mcp_federation.errors import DeadlineExceeded, FederationError, Overloaded, ServerUnavailable, ToolFailed
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.calls.python import PythonCalls
from mcp_federation.node.servers.calls.results import BrokenContract, Results
from tests.support.waiting import eventually

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@asynccontextmanager
async def calling(server: MCPServer, max_threads: int = 64) -> AsyncIterator[tuple[PythonCalls, Client]]:
    async with Client(server, cache=None) as client:
        declared = Declared()
        declared.take((await client.list_tools()).tools)
        calls = PythonCalls("box", server, client, Results(declared, 2**20), max_threads)
        try:
            yield calls, client
        finally:
            await calls.close()


def many_tools() -> MCPServer:
    server: MCPServer = MCPServer("many", version="1.0.0", title="Many tools")

    @server.tool(structured_output=False)
    async def text(value: Any) -> Any:
        return value

    @server.tool()
    async def structured(value: Any) -> dict[str, Any]:
        return {"value": value, "nothing": None}

    @server.tool()
    async def number(value: Any) -> int:
        return value  # type: ignore[no-any-return]  # what does not fit is a case of the test

    @server.tool()
    async def words(value: str, times: int = 2) -> str:
        return value * times

    @server.tool()
    async def no_words(value: Any) -> str:
        return value  # type: ignore[no-any-return]  # what does not fit is a case of the test

    @server.tool()
    def in_thread(value: Any) -> list[Any]:
        return [value, value]

    @server.tool()
    async def whole(value: Any) -> CallToolResult:
        content = TextContent(type="text", text=str(value), _meta={"value": [value]})
        return CallToolResult(content=[content], structured_content=value, _meta={"mine": [value]})

    @server.tool(structured_output=False)
    async def picture(value: Any) -> list[Any]:
        return [Image(data=repr(value).encode(), format="png"), "a caption", {"value": 1}]

    add_failing_tools(server)
    return server


def add_failing_tools(server: MCPServer) -> None:
    @server.tool()
    async def fails(value: Any) -> str:
        raise ToolError(f"the disk is full of {value!r}")

    @server.tool()
    async def crashes(value: Any) -> str:
        raise ValueError("a secret")

    @server.tool()
    async def refuses(value: Any) -> str:
        raise MCPError(-32602, "not like this")

    @server.tool()
    async def asks(value: Any) -> CallToolResult | InputRequiredResult:
        params = ElicitRequestFormParams(
            message="who?", requested_schema={"type": "object", "properties": {}}
        )
        return InputRequiredResult(input_requests={"who": ElicitRequest(params=params)})

    @server.tool()
    async def with_context(value: Any, context: Context) -> dict[str, Any]:
        return {"value": value, "version": context.protocol_version}


TOOLS = [tool.name for tool in asyncio.run(many_tools().list_tools())]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A long account of each tool that crashes takes longer than the tests."""
    logging.disable(logging.CRITICAL)
    with capture_logs():
        yield
    logging.disable(logging.NOTSET)


async def by_client(client: Client, tool: str, arguments: dict[str, Any]) -> Any:
    try:
        result = await client.call_tool(tool, arguments)
        return json.loads(result.model_dump_json(by_alias=True, exclude_none=True))
    except (MCPError, RuntimeError, ValueError):
        return "an error"


async def directly(calls: PythonCalls, tool: str, arguments: dict[str, Any]) -> Any:
    try:
        outcome = await calls.call(tool, arguments, 10, None)
    except (FederationError, BrokenContract):
        return "an error"
    result = json.loads(outcome.result)
    assert outcome.is_error == result["isError"]
    return result


@pytest.mark.parametrize("tool", [*TOOLS, "unknown"])
async def test_the_result_is_that_of_a_client(tool: str) -> None:
    examples: list[dict[str, Any]] = [{"value": 1}, {"value": "\ud800"}, {"value": 'ä"\n', "times": "3"}]

    @given(st.fixed_dictionaries({"value": JSON}) | st.dictionaries(st.text(max_size=5), JSON, max_size=2))
    @settings(max_examples=12, deadline=None, database=None)
    def collect(arguments: dict[str, Any]) -> None:
        examples.append(arguments)

    collect()
    async with calling(many_tools()) as (calls, client):
        for arguments in examples:
            assert await directly(calls, tool, arguments) == await by_client(client, tool, arguments)


async def test_what_stands_before_the_tools_of_a_server_still_does() -> None:
    async def refuse(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call":
            return CallToolResult(content=[TextContent(type="text", text="no")], is_error=True)
        return await call_next(ctx)

    server: MCPServer = MCPServer("guarded", middleware=[refuse])
    server.add_tool(len, name="length")
    async with calling(server) as (calls, _):
        assert (await calls.call("length", {"obj": "abc"}, 10, None)).is_error


class Events:
    """What a tool of the tests has seen."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.free = asyncio.Event()
        self.ended = asyncio.Event()


def waiting_tools(events: Events) -> MCPServer:
    server: MCPServer = MCPServer("waiting")

    @server.tool()
    async def quick() -> str:
        events.tasks.append(asyncio.current_task())
        return "quick"

    @server.tool()
    async def wait() -> str:
        events.tasks.append(asyncio.current_task())
        events.started.set()
        try:
            await events.free.wait()
        except asyncio.CancelledError:
            events.cancelled.set()
            raise
        return "freed"

    @server.tool()
    async def stubborn() -> str:
        events.started.set()
        while not events.free.is_set():
            try:
                await events.free.wait()
            except asyncio.CancelledError:
                events.cancelled.set()
        events.ended.set()
        return "freed"

    @server.tool()
    async def cancels_itself() -> str:
        raise asyncio.CancelledError

    return server


async def test_a_tool_that_never_waits_runs_in_the_task_of_its_caller() -> None:
    events = Events()
    async with calling(waiting_tools(events)) as (calls, _):
        await calls.call("quick", {}, 10, None)
    assert events.tasks == [asyncio.current_task()]


async def test_a_tool_that_was_seen_to_wait_gets_a_task_of_its_own() -> None:
    events = Events()
    async with calling(waiting_tools(events)) as (calls, _):
        first = asyncio.create_task(calls.call("wait", {}, 10, None))
        await events.started.wait()
        events.free.set()
        await first
        await calls.call("wait", {}, 10, None)
    assert events.tasks[0] is first
    assert events.tasks[1] is not asyncio.current_task()


@pytest.mark.parametrize("seen_to_wait", [False, True])
@pytest.mark.parametrize("tool", ["wait", "stubborn"])
@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_a_caller_is_free_at_once_and_the_tool_is_told(seen_to_wait: bool, tool: str, how: str) -> None:
    events = Events()
    async with calling(waiting_tools(events)) as (calls, _):
        if seen_to_wait:
            calls._waits.add(tool)
        call = asyncio.create_task(calls.call(tool, {}, 0.02 if how == "deadline" else 10, None))
        await events.started.wait()
        if how == "deadline":
            with pytest.raises(DeadlineExceeded):
                await call
        else:
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        async with asyncio.timeout(5):
            await events.cancelled.wait()
            if tool == "stubborn":
                assert not events.ended.is_set()
                events.free.set()
                await events.ended.wait()


async def test_a_tool_that_cancels_itself_does_not_cancel_its_caller() -> None:
    async with calling(waiting_tools(Events())) as (calls, _):
        with pytest.raises(ToolFailed, match="cancelled itself"):
            await calls.call("cancels_itself", {}, 10, None)


async def test_closing_ends_what_runs() -> None:
    events = Events()
    async with calling(waiting_tools(events)) as (calls, _):
        call = asyncio.create_task(calls.call("wait", {}, 10, None))
        await events.started.wait()
        await calls.close()
        with pytest.raises(ServerUnavailable):
            await call
        assert events.cancelled.is_set()


async def test_threads_of_calls_that_were_given_up_are_bounded_and_can_ask() -> None:
    server: MCPServer = MCPServer("threads")
    free, asked = threading.Event(), threading.Event()

    @server.tool()
    def block() -> str:
        free.wait(10)
        try:
            anyio.from_thread.check_cancelled()
        except BaseException:
            asked.set()
            raise
        return "freed"

    async with calling(server, max_threads=2) as (calls, _):
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await calls.call("block", {}, 0.02, None)
        with pytest.raises(Overloaded, match="hold all threads"):
            await calls.call("block", {}, 10, None)
        free.set()
        assert await asyncio.to_thread(asked.wait, 5)
        await eventually(lambda: calls._tasks.abandoned == 0)
        assert (await calls.call("block", {}, 10, None)).result


async def test_more_than_forty_threads_run_at_once() -> None:
    server: MCPServer = MCPServer("threads")
    all_there = threading.Barrier(50)

    @server.tool()
    def meet() -> str:
        all_there.wait(10)
        return "met"

    async with calling(server) as (calls, _):
        outcomes = await asyncio.gather(*(calls.call("meet", {}, 10, None) for _ in range(50)))
    assert not any(outcome.is_error for outcome in outcomes)


async def test_progress_reaches_who_wants_it_in_order() -> None:
    server: MCPServer = MCPServer("telling")

    @server.tool()
    async def count(to: int, context: Context) -> int:
        for step in range(to):
            await context.report_progress(step, to, f"step {step}")
        return to

    seen: list[Progress] = []
    async with calling(server) as (calls, _):
        await calls.call("count", {"to": 3}, 10, seen.append)
        await calls.call("count", {"to": 3}, 10, None)
    assert seen == [Progress(progress=step, total=3, message=f"step {step}") for step in range(3)]


async def test_a_tool_that_was_given_up_tells_nobody_any_more() -> None:
    server: MCPServer = MCPServer("telling")
    free, told = asyncio.Event(), asyncio.Event()

    @server.tool()
    async def tell(context: Context) -> str:
        await context.report_progress(1)
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()
        await context.report_progress(2)
        told.set()
        return "told"

    seen: list[Progress] = []
    async with calling(server) as (calls, _):
        with pytest.raises(DeadlineExceeded):
            await calls.call("tell", {}, 0.05, seen.append)
        free.set()
        await asyncio.wait_for(told.wait(), 5)
    assert seen == [Progress(progress=1)]
