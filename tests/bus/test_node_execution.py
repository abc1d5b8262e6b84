"""A node executes its published tools for callers: checked, bounded, cancellable, recorded."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp.server.mcpserver import MCPServer

from mcp_federation.bus import blobs
from mcp_federation.bus.blobs import SHARES, Blobs
from mcp_federation.bus.protocol import Delivery, Stored
from mcp_federation.client import FederationClient
from mcp_federation.contract.mcp import decode_result
from mcp_federation.contract.messages import (
    Cancel,
    ErrorReply,
    Record,
    RecordBatch,
    Submission,
    decode,
    encode,
)
from mcp_federation.contract.subjects import CANCEL, EXECUTE, METRICS_STREAM, SUBMIT, Header
from mcp_federation.contract.text import PARSE_ASIDE
from mcp_federation.errors import (
    Cancelled,
    DeadlineExceeded,
    FederationError,
    InternalError,
    InvalidArguments,
    InvalidRequest,
    NotExecutable,
    Overloaded,
    PayloadTooLarge,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
    error_from,
)
from mcp_federation.node.app import Node
from tests.conftest import Connect
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on, plain, toolbox
from tests.support.plain_servers import PlainServer
from tests.support.sdk_servers import HttpServer, Seen, sdk_server
from tests.support.waiting import eventually

PLAIN_TOOLS = len(PlainServer("").tools)


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        yield mesh


CEILING = re.compile(r"within 0\.(1|0[89][0-9]*) s")
"""Of a deadline of 0.1 s, some of which goes before the server is called."""

DEFAULT = re.compile(r"within 0\.0[345][0-9]* s")


async def plain_node(mesh: Mesh, **settings: Any) -> Node:
    node = await mesh.node({"plain": plain()}, **settings)
    await mesh.until(lambda: len(mesh.names()) == PLAIN_TOOLS)
    return node


async def seen(mesh: Mesh) -> Any:
    return await mesh.call("plain.seen")


async def send(
    mesh: Mesh, tool: str, payload: bytes = b"{}", timeout: float = 10, **headers: str
) -> Delivery:
    """An execute request as it is on the wire."""
    names = {"timeout_ms": Header.TIMEOUT_MS, "request_id": Header.REQUEST_ID}
    wire = {names[name]: value for name, value in headers.items()}
    return await mesh.bus.request(EXECUTE.of("acme", tool), payload, timeout=timeout, headers=wire)


async def refusal(mesh: Mesh, tool: str, payload: bytes = b"{}", **headers: Any) -> FederationError:
    """The error that the node answers with."""
    reply = await send(mesh, tool, payload, **headers)
    error = decode(reply.payload, ErrorReply)
    found = error_from(error.code, error.message, error.details)
    assert reply.headers[Header.ERROR_CODE] == str(found.status)
    assert reply.headers[Header.ERROR]
    return found


async def test_results_come_back_as_the_tools_gave_them(mesh: Mesh) -> None:
    await plain_node(mesh)
    assert await mesh.call("plain.echo", text="grüße €") == "grüße €"
    assert await mesh.call("plain.größe €", text="\U0001f600") == "\U0001f600"
    assert await mesh.call("plain.structured") == {"rows": [1, None], "isError": True}
    reply = await send(mesh, "plain.echo", b'{"arguments":{"text":"a"}}')
    assert decode_result(reply.payload).text == "a"
    assert not reply.headers


async def test_invalid_arguments_never_reach_the_server(mesh: Mesh) -> None:
    await plain_node(mesh)
    before = (await seen(mesh))["calls"]
    with pytest.raises(InvalidArguments) as caught:
        await mesh.call("plain.echo", text=7, again="twice")
    assert "'plain.echo'" in caught.value.message
    assert {problem["where"] for problem in caught.value.details["problems"]} == {"/again", "/text"}
    with pytest.raises(InvalidArguments, match="text"):
        await mesh.call("plain.echo")
    assert (await seen(mesh))["calls"] == before + 1


async def test_many_and_long_problems_are_told_in_short(mesh: Mesh) -> None:
    server: MCPServer = MCPServer("box")

    @server.tool()
    async def add(numbers: list[int]) -> int:
        """Adds up all the numbers that it is given."""
        return sum(numbers)

    await mesh.node(boxed(server))
    await mesh.shows({"add"})
    with pytest.raises(InvalidArguments) as caught:
        await mesh.call("add", numbers=["x" * 10_000] * 50)
    problems = caught.value.details["problems"]
    assert len(problems) == 5
    assert all(len(problem["problem"]) <= 300 for problem in problems)
    assert await mesh.call("add", numbers=[1, 2]) == 3


async def test_arguments_are_checked_against_the_schema_of_now(mesh: Mesh) -> None:
    async def by_text(text: str) -> str:
        return text

    async def by_number(number: int) -> int:
        return number

    server: MCPServer = MCPServer("box")
    server.add_tool(by_text, name="give", description="Gives back what it is given.")
    await mesh.node(boxed(server), poll_interval=0.05)
    await mesh.shows({"give"})
    assert await mesh.call("give", text="a") == "a"
    server.remove_tool("give")
    server.add_tool(by_number, name="give", description="Gives back what it is given.")
    await mesh.until(lambda: [tool.tool.parameters for tool in mesh.catalog.state.tools()] == [("number",)])
    assert await mesh.call("give", number=7) == 7


async def test_a_schema_that_refers_elsewhere_fetches_nothing(mesh: Mesh) -> None:
    node = await plain_node(mesh)
    tool = node.registrar.get("plain.echo")
    assert tool is not None
    raw = msgspec.Raw(b'{"$ref":"http://127.0.0.1:1/schema.json"}')
    changed = msgspec.structs.replace(tool.tool, input_schema=raw)
    object.__setattr__(tool, "tool", changed)
    assert isinstance(await refusal(mesh, "plain.echo", b'{"arguments":{"text":"a"}}'), InternalError)


async def test_what_is_not_published_is_not_executed(mesh: Mesh) -> None:
    server = toolbox("box", "good", "bad")
    server.remove_tool("bad")
    server.add_tool(len, name="bad", description="Has a hidden\u200b character in its text.")
    await mesh.node(boxed(server))
    await mesh.heard(lambda presence: bool(presence.refused))
    await mesh.shows({"box.good"})
    for name in ("box.bad", "box.unknown", "good"):
        error = await refusal(mesh, name)
        assert isinstance(error, ToolNotFound)
        assert repr(name) in error.message


MALFORMED = (
    b"not json",
    b"[]",
    b'{"arguments":7}',
    b'{"name":7}',
    b"\xff",
    b'{"name":"plain.fail"}',
)


async def test_a_malformed_request_is_refused(mesh: Mesh) -> None:
    await plain_node(mesh)
    for payload in MALFORMED:
        assert isinstance(await refusal(mesh, "plain.echo", payload), InvalidRequest)
    assert await mesh.call("plain.echo", text="still there") == "still there"


async def test_the_name_in_the_params_may_be_left_out_or_right(mesh: Mesh) -> None:
    await plain_node(mesh)
    for payload in (b'{"name":"plain.fail"}', b"{}", b""):
        reply = await send(mesh, "plain.fail", payload)
        assert decode_result(reply.payload).is_error


NO_TIMEOUTS = ("0", "-5", "1.5", "soon", "1e3", "9" * 400, "9" * 5000, "+5", "1_000", "0x10")


async def test_a_timeout_that_is_none_is_refused(mesh: Mesh) -> None:
    await plain_node(mesh)
    for text in NO_TIMEOUTS:
        error = await refusal(mesh, "plain.echo", b'{"arguments":{"text":"a"}}', timeout_ms=text)
        assert isinstance(error, InvalidRequest)


async def test_the_node_enforces_the_deadline(mesh: Mesh) -> None:
    await plain_node(mesh)
    error = await refusal(mesh, "plain.wait", timeout_ms="50")
    assert isinstance(error, DeadlineExceeded)
    with pytest.raises(DeadlineExceeded):
        await mesh.call("plain.wait", timeout=0.05)


async def test_the_node_enforces_the_deadline_of_a_toolbox_that_blocks(mesh: Mesh) -> None:
    server: MCPServer = MCPServer("box")
    blocked = threading.Event()

    @server.tool()
    def block() -> str:
        """Blocks its thread until somebody frees it."""
        blocked.wait(30)
        return "freed"

    await mesh.node(boxed(server))
    await mesh.shows({"block"})
    try:
        assert isinstance(await refusal(mesh, "block", timeout_ms="50"), DeadlineExceeded)
    finally:
        blocked.set()


async def test_a_deadline_has_a_ceiling_and_a_default(mesh: Mesh) -> None:
    await plain_node(mesh, max_call_timeout=0.1, call_timeout=0.05)
    assert CEILING.search((await refusal(mesh, "plain.wait", timeout_ms="60000")).message)
    assert CEILING.search((await refusal(mesh, "plain.wait", timeout_ms="9" * 15)).message)
    assert DEFAULT.search((await refusal(mesh, "plain.wait")).message)


@pytest.mark.parametrize("padding", ["", "x" * PARSE_ASIDE])
async def test_arguments_that_nest_deeper_than_a_server_may_bear_are_refused(
    mesh: Mesh, padding: str
) -> None:
    await plain_node(mesh, max_depth=5)
    deep: dict[str, Any] = {"a": {"b": {}}}
    assert await mesh.call("plain.echo", text="a", padding=padding, more=deep) == "a"
    with pytest.raises(InvalidArguments, match="nest deeper than 5 levels"):
        await mesh.call("plain.echo", text="a", padding=padding, more={"c": deep})
    assert isinstance(await refusal(mesh, "plain.echo", b"[" * 100_000), InvalidArguments)


async def test_a_full_node_refuses_at_once(mesh: Mesh) -> None:
    node = await plain_node(mesh, max_in_flight=2)
    waiting = [asyncio.create_task(mesh.call("plain.wait")) for _ in range(2)]
    await mesh.heard(lambda presence: presence.in_flight == 2)
    with pytest.raises(Overloaded) as caught:
        await mesh.call("plain.echo", text="a")
    assert caught.value.details["retry_after_ms"] > 0
    await node.servers["plain"].call("release", {}, 5)
    assert await asyncio.gather(*waiting) == ["wait", "wait"]
    await mesh.heard(lambda presence: presence.in_flight == 0)
    assert await mesh.call("plain.echo", text="a") == "a"


async def test_a_caller_that_cancels_reaches_the_tool(mesh: Mesh) -> None:
    watch = Seen()
    await mesh.node({"plain": plain(), **boxed(sdk_server("box", watch))})
    await mesh.has("plain.wait", "plain.seen", "box.wait")
    calls = [asyncio.create_task(mesh.call(name)) for name in ("plain.wait", "box.wait")]
    await watch.started.wait()
    await mesh.heard(lambda presence: presence.in_flight == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.wait_for(watch.cancelled.wait(), 5)
    async with asyncio.timeout(5):
        while not (await seen(mesh))["cancelled"]:
            pass
    await mesh.heard(lambda presence: presence.in_flight == 0)


async def test_a_cancelled_request_is_answered_so(mesh: Mesh) -> None:
    await plain_node(mesh)
    request = asyncio.create_task(refusal(mesh, "plain.wait", request_id="mine"))
    others = asyncio.create_task(refusal(mesh, "plain.wait", request_id="yours", timeout_ms="500"))
    await mesh.heard(lambda presence: presence.in_flight == 2)
    await mesh.bus.publish(CANCEL.of("acme"), encode(Cancel(request_id="nobodys")))
    await mesh.bus.publish(CANCEL.of("acme"), b"nonsense")
    await mesh.bus.publish(CANCEL.of("acme"), encode(Cancel(request_id="mine")))
    assert isinstance(await request, Cancelled)
    assert isinstance(await others, DeadlineExceeded)


async def test_a_server_that_crashes_fails_its_call_and_works_again(mesh: Mesh) -> None:
    await plain_node(mesh)
    with pytest.raises(ServerUnavailable, match="went away") as caught:
        await mesh.call("plain.crash")
    assert "last words" not in caught.value.message
    assert await mesh.call("plain.echo", text="a") == "a"
    assert len(mesh.names()) == PLAIN_TOOLS


async def test_a_server_over_http_that_comes_back_works_again(mesh: Mesh) -> None:
    async with HttpServer() as http:
        node = await mesh.node({"web": http.spec})
        await mesh.has("web.echo")
        assert await mesh.call("web.echo", text="a") == "a"
        await http.stop()
        with pytest.raises(ServerUnavailable):
            await mesh.call("web.echo", text="a")
        await http.start()
        await mesh.ready(node, "web", restarts=1)
        assert await mesh.call("web.echo", text="a") == "a"


async def test_an_error_of_the_tool_is_told_as_one(mesh: Mesh) -> None:
    await mesh.node({"plain": plain(), **boxed(sdk_server("box"))})
    await mesh.has("plain.fail", "box.fail", "plain.nonsense", "plain.refuse")
    for name in ("plain.fail", "box.fail"):
        with pytest.raises(ToolFailed, match="the disk is full"):
            await mesh.call(name)
    with pytest.raises(ToolFailed, match="breaks its own contract"):
        await mesh.call("plain.nonsense")
    with pytest.raises(ToolFailed, match="the server refuses"):
        await mesh.call("plain.refuse", code=7)


async def test_what_does_not_fit_a_message_travels_both_ways(mesh: Mesh) -> None:
    await plain_node(mesh)
    text = "größer" * 400_000
    assert await mesh.call("plain.echo", text=text) == text


async def test_many_large_calls_at_once_wait_for_each_other_and_none_is_lost(mesh: Mesh) -> None:
    bound = 1_500_000
    await plain_node(mesh, max_payload=bound)
    client = FederationClient(mesh.bus, mesh.catalog, max_payload=bound)
    texts = [str(number % 10) * 1_200_000 for number in range(5 * SHARES)]
    try:
        results = await asyncio.gather(*(client.execute("plain.echo@acme", {"text": text}) for text in texts))
    finally:
        await client.close()
    assert [result.value for result in results] == texts


async def test_a_result_that_is_given_up_while_it_is_fetched_is_kept_no_longer(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await plain_node(mesh)
    kept = node.executor._blobs
    monkeypatch.setattr(blobs, "CHUNK", 16)  # it would take minutes
    fetching = asyncio.Event()
    read = blobs.Offer.read

    def reading(offer: blobs.Offer, offset: int, length: int) -> bytes:
        fetching.set()
        return read(offer, offset, length)

    monkeypatch.setattr(blobs.Offer, "read", reading)
    call = asyncio.create_task(mesh.call("plain.big", size=2_000_000))
    await asyncio.wait_for(fetching.wait(), 10)
    call.cancel()
    await eventually(lambda: len(kept) == 0)


async def test_a_node_whose_results_pile_up_takes_no_more_calls(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plain_node(mesh)
    monkeypatch.setattr(Blobs, "crowded", True)
    call = b'{"arguments":{"text":"a"}}'
    reply = await mesh.bus.request(EXECUTE.of("acme", "plain.echo"), call, timeout=5)
    assert reply.headers[Header.ERROR_CODE] == str(Overloaded.status)
    assert json.loads(reply.payload)["details"]["retry_after_ms"] > 0


async def test_arguments_over_the_bound_are_refused_before_they_travel(mesh: Mesh) -> None:
    await plain_node(mesh, max_payload=1_500_000)
    with pytest.raises(PayloadTooLarge, match="1500000"):
        await mesh.call("plain.echo", text="x" * 2_000_000)
    assert await mesh.call("plain.echo", text="x" * 500_000) == "x" * 500_000


async def test_a_result_over_the_bound_is_told_so(mesh: Mesh) -> None:
    await plain_node(mesh, max_payload=1_500_000)
    with pytest.raises(PayloadTooLarge, match="1500000"):
        await mesh.call("plain.big", size=2_000_000)
    assert len(await mesh.call("plain.big", size=500_000)) == 500_000


async def test_a_slow_call_does_not_delay_fast_ones(mesh: Mesh) -> None:
    await plain_node(mesh)
    slow = asyncio.create_task(mesh.call("plain.wait"))
    texts = [str(number) for number in range(64)]
    assert await asyncio.gather(*(mesh.call("plain.echo", text=text) for text in texts)) == texts
    assert not slow.done()
    await mesh.call("plain.release")
    assert await slow == "wait"


class Records:
    """All records that were published."""

    def __init__(self) -> None:
        self.all: list[Record] = []
        self.payloads: list[bytes] = []
        self._more = asyncio.Event()

    async def __call__(self, stored: Stored) -> None:
        self.payloads.append(stored.payload)
        self.all += decode(stored.payload, RecordBatch).records
        self._more.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.all) < count:
                self._more.clear()
                await self._more.wait()


async def test_every_execution_is_recorded_without_what_it_was_about(mesh: Mesh) -> None:
    await mesh.bus.ensure_stream(METRICS_STREAM)
    records = Records()
    await mesh.bus.follow(METRICS_STREAM, records)
    node = await plain_node(mesh, sharing="records")
    await mesh.call("plain.echo", text="s3cret")
    await mesh.call("plain.structured")
    for name, timeout, arguments in (
        ("plain.fail", 5.0, {}),
        ("plain.refuse", 5.0, {"code": 7}),
        ("plain.wait", 0.05, {}),
        ("plain.crash", 5.0, {}),
    ):
        with pytest.raises(FederationError):
            await mesh.call(name, timeout=timeout, **arguments)
    await mesh.leave(node)
    await records.until(6)
    assert {(record.tool, record.success, record.error_kind) for record in records.all} == {
        ("plain.echo", True, None),
        ("plain.structured", True, None),
        ("plain.fail", False, "tool_failed"),
        ("plain.refuse", False, "tool_failed"),
        ("plain.wait", False, "deadline_exceeded"),
        ("plain.crash", False, "server_unavailable"),
    }
    assert all(record.node == "acme" and record.latency_ms >= 0 for record in records.all)
    assert b"s3cret" not in b"".join(records.payloads)
    fields = set(json.loads(records.payloads[0])["records"][0])
    assert fields <= {"node", "tool", "success", "latency_ms", "cost", "error_kind"}


async def test_a_cancelled_execution_is_recorded(mesh: Mesh) -> None:
    await mesh.bus.ensure_stream(METRICS_STREAM)
    records = Records()
    await mesh.bus.follow(METRICS_STREAM, records)
    node = await plain_node(mesh, sharing="records")
    call = asyncio.create_task(mesh.call("plain.wait"))
    await mesh.heard(lambda presence: presence.in_flight == 1)
    call.cancel()
    await mesh.heard(lambda presence: presence.in_flight == 0)
    await mesh.leave(node)
    await records.until(1)
    assert records.all[0].error_kind == "cancelled"


async def test_a_failure_of_ours_shows_nothing_of_its_inside(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await plain_node(mesh)

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("/root/secret")

    monkeypatch.setattr(node.servers["plain"], "call", broken)
    with pytest.raises(InternalError) as caught:
        await mesh.call("plain.echo", text="a")
    assert "secret" not in caught.value.message
    assert node.executor.stats["errors"] == 1


async def test_a_tool_whose_server_is_no_longer_there_is_unavailable(mesh: Mesh) -> None:
    node = await plain_node(mesh)
    server = node.servers.pop("plain")
    assert isinstance(await refusal(mesh, "plain.fail"), ServerUnavailable)
    node.servers["plain"] = server


async def test_a_described_tool_is_not_executed(mesh: Mesh) -> None:
    await mesh.node()
    submission = Submission(name="described", description="Tells what nobody can run here.")
    await mesh.bus.request(SUBMIT.of("acme"), encode(submission), timeout=10)
    await mesh.shows({"described"})
    with pytest.raises(NotExecutable):
        await mesh.call("described")
    assert isinstance(await refusal(mesh, "described"), NotExecutable)
