"""Calls by POST: whatever an HTTP server answers becomes an outcome or a clear error."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.contract.messages import Progress
from mcp_federation.errors import Overloaded, PayloadTooLarge, ServerUnavailable, ToolFailed
from mcp_federation.node.servers.calls.calling import Disconnected, Outcome
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.calls.events import EventStream, TooLong
from mcp_federation.node.servers.calls.http import HttpCalls
from mcp_federation.node.servers.calls.refused import refused
from mcp_federation.node.servers.calls.results import BrokenContract, Results
from tests.support.http_peer import HttpPeer, refused_url

RESULT = {"content": [{"type": "text", "text": "grüße"}], "resultType": "complete"}
REVISION = "2026-07-28"


@asynccontextmanager
async def calling(url: str, headers: dict[str, str] | None = None) -> AsyncIterator[HttpCalls]:
    declared = Declared()
    calls = HttpCalls("box", url, headers or {}, REVISION, declared, Results(declared, 1000))
    try:
        yield calls
    finally:
        await calls.close()


async def call(calls: HttpCalls, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
    return await calls.call("größe €", {"text": "a"}, 10, on_progress)


def rpc(**message: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", **message})


def answering(*parts: str | bytes, **how: Any) -> Any:
    """A route that answers with a stream of these parts."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(**how)
        await response.prepare(request)
        for part in parts:
            await response.write(part.encode() if isinstance(part, str) else part)
        return response

    return answer


JSON = {"headers": {"Content-Type": "application/json"}}
EVENTS = {"headers": {"Content-Type": "text/event-stream"}}


async def test_a_request_says_all_that_the_revision_asks_for() -> None:
    got: dict[str, Any] = {}

    async def look(request: web.Request) -> web.StreamResponse:
        got.update(headers=dict(request.headers), body=await request.json())
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": RESULT})

    with HttpPeer({"POST /mcp": look}) as peer:
        async with calling(f"{peer.url}/mcp", {"authorization": "Bearer t0ken", "accept": "*/*"}) as calls:
            outcome = await call(calls)
            assert json.loads(outcome.result) == RESULT
            assert "progressToken" not in got["body"]["params"]["_meta"]
            await call(calls, lambda _: None)
            assert got["body"]["params"]["_meta"]["progressToken"] == got["body"]["id"]
    headers = {name.lower(): value for name, value in got["headers"].items()}
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["accept"] == "application/json, text/event-stream"
    assert headers["mcp-protocol-version"] == REVISION
    assert headers["mcp-method"] == "tools/call"
    assert headers["mcp-name"] == "=?base64?Z3LDtsOfZSDigqw=?="
    params = got["body"]["params"]
    assert (params["name"], params["arguments"]) == ("größe €", {"text": "a"})
    assert params["_meta"]["io.modelcontextprotocol/protocolVersion"] == REVISION
    assert params["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}


async def test_an_answer_as_a_stream_tells_progress_first() -> None:
    def progress(step: int) -> str:
        params = {"progressToken": 1, "progress": step}
        return f"event: message\r\ndata: {rpc(method='notifications/progress', params=params)}\r\n\r\n"

    end = f"id: 7\ndata: {rpc(id=1, result=RESULT)}\n\n"
    route = answering(": ping\n\n", progress(1), progress(2) + end[:20], end[20:], progress(3), **EVENTS)
    seen: list[Progress] = []
    with HttpPeer({"POST /": route}) as peer:
        async with calling(peer.url) as calls:
            assert json.loads((await call(calls, seen.append)).result) == RESULT
            assert json.loads((await call(calls)).result) == RESULT
    assert seen == [Progress(progress=1), Progress(progress=2)]


@pytest.mark.parametrize(
    "first", ["id: 1\ndata:\n\n", "retry: 3000\rdata: \r\r", "event: ping\ndata: 2026\n\n"]
)
async def test_events_that_are_no_messages_are_passed_over(first: str) -> None:
    route = answering(first, f"data: {rpc(id=1, result=RESULT)}\n\n", **EVENTS)
    with HttpPeer({"POST /": route}) as peer:
        async with calling(peer.url) as calls:
            assert json.loads((await call(calls)).result) == RESULT


@pytest.mark.parametrize(
    ("route", "kind", "ran"),
    [
        (answering(rpc(id=1, error={"code": 7, "message": "no"}), status=200, **JSON), ToolFailed, True),
        (answering(rpc(id=1, result=RESULT)[:-9], **JSON), BrokenContract, None),
        (answering(rpc(id=1, result={"content": [{"type": "text"}]}), **JSON), BrokenContract, None),
        (answering(rpc(id=1), **JSON), BrokenContract, None),
        (answering("<html>", headers={"Content-Type": "text/html"}), BrokenContract, None),
        (answering("data: nonsense\n\n", **EVENTS), BrokenContract, None),
        (answering(": ping\n\n", **EVENTS), Disconnected, None),
        (answering(rpc(id=1, result={"content": [], "x": "x" * 1000}), **JSON), PayloadTooLarge, None),
        (answering(b"x" * 100_000, **JSON), PayloadTooLarge, None),
        (answering(b"data: " + b"x" * 100_000, **EVENTS), PayloadTooLarge, None),
        (answering(status=401), Disconnected, False),
        (answering(status=404), Disconnected, False),
        (answering(status=413), PayloadTooLarge, None),
        (answering(status=418), ServerUnavailable, None),
        (answering(status=502), Disconnected, None),
        (answering(status=307, headers={"Location": "http://other.example/"}), ServerUnavailable, None),
        (answering(status=307, headers={"Location": "/"}), ServerUnavailable, None),
        (answering(status=308), ServerUnavailable, None),
        (
            answering(rpc(id=1, error={"code": -32020, "message": "other headers"}), status=400, **JSON),
            Disconnected,
            False,
        ),
    ],
)
async def test_what_is_no_result_is_an_error(route: Any, kind: type[Exception], ran: bool | None) -> None:
    with HttpPeer({"POST /": route}) as peer:
        async with calling(peer.url) as calls:
            with pytest.raises(kind) as caught:
                await call(calls)
    assert getattr(caught.value, "ran", None) is ran


async def test_a_connection_is_kept_also_behind_a_stream() -> None:
    ports: set[Any] = set()

    async def stream(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername"))
        answer: web.StreamResponse = await answering(f"data: {rpc(id=1, result=RESULT)}\n\n", **EVENTS)(
            request
        )
        return answer

    with HttpPeer({"POST /": stream}) as peer:
        async with calling(peer.url) as calls:
            for _ in range(3):
                await call(calls)
    assert len(ports) == 1


async def test_a_server_that_moved_within_itself_is_followed_and_remembered() -> None:
    routes = {
        "POST /mcp": answering(status=307, headers={"Location": "/mcp/"}),
        "POST /mcp/": answering(rpc(id=1, result=RESULT), **JSON),
    }
    with HttpPeer(routes) as peer:
        async with calling(f"{peer.url}/mcp") as calls:
            await call(calls)
            await call(calls)
        assert [seen.path for seen in peer.seen] == ["/mcp", "/mcp/", "/mcp/"]


@pytest.mark.parametrize(("said", "ms"), [("3", 3000), ("", 1000), ("Fri, 31 Dec 1999", 1000)])
async def test_a_server_at_its_limit_says_when_to_try_again(said: str, ms: int) -> None:
    with HttpPeer({"POST /": answering(status=429, headers={"Retry-After": said})}) as peer:
        async with calling(peer.url) as calls:
            with pytest.raises(Overloaded) as caught:
                await call(calls)
    assert caught.value.details == {"retry_after_ms": ms}


def test_a_bad_request_that_speaks_of_our_session_is_the_end_of_it() -> None:
    lost = refused(400, "box", session=True)
    assert isinstance(lost, Disconnected)
    assert (lost.ran, bool(lost.fault)) == (False, True)
    assert isinstance(refused(400, "box"), ServerUnavailable)


async def test_where_nobody_listens_surely_nothing_ran() -> None:
    async with calling(refused_url()) as calls:
        with pytest.raises(Disconnected) as caught:
            await call(calls)
    assert caught.value.ran is False


@given(st.lists(st.text("ab:\t", min_size=1, max_size=5), max_size=5), st.data())
@settings(max_examples=50, deadline=None)
def test_messages_come_out_as_they_went_in(texts: list[str], data: st.DataObject) -> None:
    ends = st.sampled_from(["\n", "\r\n", "\r"])
    names = st.sampled_from(["", "event: message{end}", "event:message{end}"])
    others = st.sampled_from(
        ["", "event: ping{end}data: 1{end}{end}", "id: 1{end}data:{end}{end}", "event: a{end}{end}"]
    )
    stream = "".join(
        f"{data.draw(others)}: note{{end}}{data.draw(names)}data:{data.draw(st.sampled_from(['', ' ']))}"
        f"{text}{{end}}{{end}}".replace("{end}", data.draw(ends))
        for text in texts
    ).encode()
    events = EventStream(1000)
    found: list[bytes] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += events.feed(stream[:cut])
        stream = stream[cut:]
    assert found == [text.encode() for text in texts]


def test_lines_of_one_event_belong_together_and_are_bounded() -> None:
    events = EventStream(20)
    assert events.feed(b"data: a\ndata: b\n\n") == [b"a\nb"]
    with pytest.raises(TooLong):
        events.feed(b"data: 123456789\n" * 5)
