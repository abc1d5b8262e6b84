"""The HTTP face as such: who may come in, how errors look, what is documented."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.edge import incoming
from mcp_federation.edge.execution import ENVELOPE
from mcp_federation.edge.server import bind, url_of
from mcp_federation.errors import Conflict, InvalidRequest
from tests.support.edge_mesh import TOKEN, Edge, edge_settings, ensure_streams, running_edge, served

SECURED = [
    ("GET", "/discover"),
    ("POST", "/execute"),
    ("GET", "/metadata"),
    ("POST", "/metadata"),
    ("POST", "/register"),
]


@pytest.fixture
async def memory() -> Any:
    async with MemoryBus() as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
async def edge(memory: MemoryBus) -> Any:
    async with running_edge(memory) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), [*SECURED, ("GET", "/nowhere")])
@pytest.mark.parametrize("sent", ["", "Bearer wrong", "Basic " + TOKEN, TOKEN, "Bearer", b"Bearer \xff"])
async def test_without_the_token_nobody_comes_in(edge: Edge, method: str, path: str, sent: Any) -> None:
    answer = await edge.request(method, path, headers={"Authorization": sent}, content=b"{not json")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json["code"] == "unauthorized"
    assert TOKEN.encode() not in answer.body


async def test_the_scheme_is_written_in_either_case(edge: Edge) -> None:
    assert (await edge.get("/discover", headers={"Authorization": f"bEARER {TOKEN}"})).status == 200


async def test_health_and_the_api_document_need_no_token(edge: Edge) -> None:
    for path in ("/healthz", "/openapi.json"):
        assert (await edge.get(path, headers={"Authorization": "none"})).status == 200


async def test_without_a_token_set_the_edge_is_open_and_says_so_once(memory: MemoryBus) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running_edge(memory, edge_settings(token=None)) as open_edge:
            assert (await open_edge.get("/discover")).status == 200
            assert (await open_edge.get("/discover")).json == []
            assert {} in open_edge.app.openapi()["paths"]["/discover"]["get"]["security"]
    assert [line["log_level"] for line in logs if line["event"] == "edge_open"] == ["warning"]


async def test_an_unknown_path_is_a_problem(edge: Edge) -> None:
    for path in ("/", "/nowhere", "/discover/", "/docs", "/redoc"):
        answer = await edge.get(path)
        assert answer.status == 404
        assert answer.json["code"] == "not_found"
        assert "/openapi.json" in answer.json["detail"]


async def test_a_wrong_method_is_told_the_right_ones(edge: Edge) -> None:
    answer = await edge.request("DELETE", "/metadata")
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert answer.json["code"] == "method_not_allowed"


async def test_head_is_answered_like_get_without_the_body(edge: Edge) -> None:
    async with served(edge) as real, real.session.head(real.url + "/discover") as response:
        assert response.status == 200
        assert await response.read() == b""


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
async def test_a_body_that_is_not_declared_as_json_is_refused(edge: Edge, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = await edge.request("POST", "/execute", content=b"{}", headers=headers)
    assert answer.status == 415
    assert answer.json["code"] == "unsupported_media_type"


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("identity", 404)])
async def test_a_body_that_is_compressed_is_refused(edge: Edge, encoding: str, status: int) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = await edge.request("POST", "/execute", content=b'{"mcp_name":"none"}', headers=headers)
    assert answer.status == status
    assert ("Content-Encoding" in answer.json["detail"]) is (status == 415)


async def test_half_a_surrogate_pair_is_called_so(edge: Edge) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await edge.request("POST", "/execute", content=rb'{"mcp_name":"\ud83d"}', headers=headers)
    assert answer.status == 400
    assert "surrogate" in answer.json["detail"]


async def test_a_charset_beside_the_media_type_is_fine(edge: Edge) -> None:
    assert (await edge.post_bytes("/metadata", b"[]", "Application/JSON; charset=utf-8")).status == 204


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b'{"mcp_name": "a"} {}', "no valid JSON"),
        (b'{"mcp_name": "a", "kwargs": {"x": NaN}}', "no valid JSON"),
        (b'{"mcp_name": "a", "kwargs": {"x": "\xff"}}', "UTF-8"),
        (b'{"mcp_name": "a", "kwargs": {"x": "\\ud800"}}', "no valid JSON"),
        (b"[]", "does not fit"),
        (b'{"mcp_name": 1}', "$.mcp_name"),
        (b'{"mcp_name": ""}', "$.mcp_name"),
        (b'{"args": []}', "mcp_name"),
        (b'{"mcp_name": "a", "args": {}}', "$.args"),
        (b'{"mcp_name": "a", "kwargs": []}', "$.kwargs"),
        (b'{"mcp_name": "a", "timeout": 0}', "$.timeout"),
        (b'{"mcp_name": "a", "timeout": 1e6}', "longest timeout"),
        (b'{"mcp_name": "a", "args": ' + b"[" * 64 + b"]" * 64 + b"}", "deeper than 64"),
    ],
)
async def test_a_body_that_does_not_fit_is_told_why(edge: Edge, body: bytes, said: str) -> None:
    answer = await edge.post_bytes("/execute", body)
    assert answer.status == 400
    assert answer.json["code"] == "invalid_request"
    assert said in answer.json["detail"]


async def test_a_head_without_end_is_refused_before_all_has_come(edge: Edge) -> None:
    async with asyncio.timeout(20), served(edge) as real:
        address = urlsplit(real.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        answer = asyncio.create_task(reader.readline())
        with suppress(ConnectionError):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: ")
            for _ in range(1000):
                writer.write(b"x" * 16_384)
                await writer.drain()
        assert (await answer).startswith(b"HTTP/1.1 431")
        writer.close()
        async with real.session.get(real.url + "/healthz") as healthy:
            assert healthy.status == 200


async def test_of_long_bodies_and_many_requests_no_head_grows_too_long(edge: Edge) -> None:
    async with served(edge) as real:
        for size in (*[4_000] * 40, 65_000, 70_000, 200_000):
            body = b'{"mcp_name":"none","kwargs":{"text":"' + b"x" * size + b'"}}'
            headers = {"Content-Type": "application/json"}
            async with real.session.post(real.url + "/execute", data=body, headers=headers) as answer:
                assert answer.status == 404


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 100, 10_000])
async def test_a_request_that_offers_another_protocol_is_answered_with_its_body(
    edge: Edge, chunked: bool, piece: int
) -> None:
    body = b'{"mcp_name": "none"}'
    sized = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if chunked:
        sized = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    post = b"POST /execute HTTP/1.1\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
    request = post % TOKEN.encode() + OFFER + sized
    get = b"GET /healthz HTTP/1.1\r\n" + OFFER + b"\r\n"
    async with asyncio.timeout(20), served(edge) as real:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(real.url).port)
        sent = request + get + request
        for start in range(0, len(sent), piece):
            writer.write(sent[start : start + piece])
            await writer.drain()
        for status, ends_with in ((404, b'tool_not_found"}'), (200, b'ok"}'), (404, b'tool_not_found"}')):
            assert (await reader.readuntil(ends_with)).startswith(b"HTTP/1.1 %d" % status)
        writer.close()


async def test_a_body_at_the_depth_bound_is_read(edge: Edge) -> None:
    body = b'{"mcp_name": "a", "args": ' + b"[" * 63 + b"]" * 63 + b"}"
    assert (await edge.post_bytes("/execute", body)).status == 404


@pytest.mark.parametrize(
    ("path", "bound"), [("/execute", 3000 + ENVELOPE), ("/metadata", 2000), ("/register", 2000)]
)
async def test_a_body_over_the_bound_is_refused_and_the_edge_lives_on(
    memory: MemoryBus, path: str, bound: int
) -> None:
    async with running_edge(memory, edge_settings(max_body=2000, max_payload=3000)) as edge:
        at_the_bound = b"[" + b" " * (bound - 2) + b"]"
        assert (await edge.post_bytes(path, at_the_bound)).status in (204, 400)
        answer = await edge.post_bytes(path, at_the_bound + b" ")
        assert answer.status == 413
        assert answer.json == {**answer.json, "code": "payload_too_large", "limit": bound}
        assert (await edge.get("/healthz")).status == 200


async def test_chunks_over_the_bound_are_refused_before_all_have_come(memory: MemoryBus) -> None:
    refused = asyncio.Event()

    async def endless() -> Any:
        while not refused.is_set():
            yield b" " * 1000

    async with running_edge(memory, edge_settings(max_payload=2000)) as edge, served(edge) as real:
        headers = {"Content-Type": "application/json"}
        async with real.session.post(real.url + "/execute", data=endless(), headers=headers) as response:
            assert response.status == 413
            refused.set()


async def raw_exchange(url: str, head: str, body: bytes, *, finish: bool = True) -> bytes:
    """What comes back on a connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode() + body)
    await writer.drain()
    if finish:
        writer.write_eof()
    try:
        async with asyncio.timeout(10):
            return await (reader.read() if finish else reader.readuntil(b"\r\n\r\n"))
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_body_shorter_than_declared_gets_no_answer_and_harms_nobody(edge: Edge) -> None:
    head = "POST /execute HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100"
    async with served(edge) as real:
        assert b" 200 " not in await raw_exchange(real.url, head, b"{}")
        assert (await real.execute("nothing")).status == 404


async def test_a_body_that_does_not_come_is_not_waited_for_without_end(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "BODY_TIMEOUT", 0.05)
    head = "POST /execute HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100"
    async with served(edge) as real:
        assert b" 408 " in (await raw_exchange(real.url, head, b"{", finish=False)).splitlines()[0]


def post_blindly(url: str, path: str, headers: Mapping[str, str], size: int) -> tuple[int, bytes]:
    """What a client gets that sends all of its body before it reads."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=20)
    try:
        connection.request("POST", path, b" " * size, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("kept", ["keep-alive", "close"])
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/execute", {"Authorization": "Bearer wrong"}, 401),
        ("/nowhere", {"Authorization": "Bearer wrong"}, 401),
        ("/execute", {"Content-Type": "text/plain"}, 415),
        ("/metadata", {}, 413),
    ],
)
async def test_a_client_that_does_not_read_early_learns_why_its_large_body_was_refused(
    edge: Edge, path: str, headers: Mapping[str, str], status: int, kept: str
) -> None:
    sent = {"Authorization": f"Bearer {TOKEN}", "Connection": kept, **headers}
    async with served(edge) as real:
        got, body = await asyncio.to_thread(post_blindly, real.url, path, sent, 8 * 1024 * 1024)
    assert got == status
    assert msgspec.json.decode(body)["status"] == status


async def test_a_refused_body_that_stops_coming_is_not_waited_for_without_end(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "LINGER_SILENCE", 0.05)
    head = "POST /execute HTTP/1.1\r\nContent-Length: 100"
    async with served(edge) as real:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(real.url).port)
        writer.write(f"{head}\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n{{".encode())
        async with asyncio.timeout(10):
            assert b" 401 " in await reader.read()  # to its end: the connection is closed
        writer.close()


async def test_a_fault_of_ours_is_a_problem_without_a_stack(edge: Edge) -> None:
    async def broken(_: Request) -> Response:
        raise RuntimeError("/secret/path.py")

    edge.app.router.routes.append(Route("/broken", broken))
    with structlog.testing.capture_logs() as logs:
        answer = await edge.get("/broken")
    assert answer.status == 500
    assert answer.json["code"] == "internal_error"
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert [line["path"] for line in logs if line["event"] == "request_failed"] == ["/broken"]


async def test_a_fault_after_the_answer_began_is_logged(edge: Edge) -> None:
    class Torn:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            raise RuntimeError

    edge.app.router.routes.append(Route("/torn", Torn()))
    with structlog.testing.capture_logs() as logs:
        async with served(edge) as real, real.session.get(real.url + "/torn") as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    assert any(line["event"] == "request_failed" for line in logs)


async def test_each_request_is_logged_with_neither_token_nor_body(memory: MemoryBus) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running_edge(memory, edge_settings(log_level="http")) as edge:
            await edge.post_bytes("/execute?q=private", b'{"mcp_name": "private"}')
    (line,) = [line for line in logs if line["event"] == "request"]
    assert line == {**line, "level": "http", "method": "POST", "path": "/execute", "status": 404}
    assert line["ms"] >= 0
    assert TOKEN not in json.dumps(logs)
    assert "private" not in json.dumps(line)


async def test_requests_are_not_logged_above_the_level_http(edge: Edge) -> None:
    with structlog.testing.capture_logs() as logs:
        await edge.get("/healthz")
    assert logs == []


async def test_a_websocket_is_turned_away(edge: Edge) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/discover", "headers": [], "query_string": b"", "subprotocols": []}
    await edge.app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_the_openapi_document_has_every_route_and_only_those(edge: Edge) -> None:
    document = (await edge.get("/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    served = {
        (route.path, method.lower())
        for route in edge.app.routes
        if isinstance(route, Route) and route.path != "/openapi.json"
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == {(path, method) for path, item in document["paths"].items() for method in item}
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}


async def test_every_documented_operation_names_its_problems_and_its_token(edge: Edge) -> None:
    document = edge.app.openapi()
    for method, path in SECURED:
        operation = document["paths"][path][method.lower()]
        assert operation["security"] == [{"bearer": []}]
        problems = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"401", "500"} <= problems.keys()
        for answer in problems.values():
            assert answer["content"].keys() == {"application/problem+json"}
        if method == "POST":
            assert {"400", "408", "413", "415"} <= problems.keys()
            assert operation["requestBody"]["content"].keys() == {"application/json"}


async def test_every_reference_in_the_openapi_document_leads_somewhere(edge: Edge) -> None:
    document = edge.app.openapi()

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    found = set(references(document))
    assert found
    assert found <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


async def test_a_taken_port_is_one_clear_line() -> None:
    with await bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} is taken"):
            await bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1", "a" * 300])
async def test_an_address_that_is_not_ours_is_one_clear_line(host: str) -> None:
    with pytest.raises(InvalidRequest, match="listen"):
        await bind(host, 0)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
async def test_the_url_is_one_that_a_client_can_use(host: str, shown: str) -> None:
    with await bind(host, 0) as sock:
        assert url_of(sock).startswith(shown)
