"""What `POST /register` brings to a node: a described tool, or a server that the node then reaches."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp.server.mcpserver import MCPServer

from mcp_federation.contract.messages import (
    ErrorReply,
    Submission,
    SubmissionAnswer,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.subjects import SUBMISSION, SUBMISSION_STREAM, SUBMIT, Header
from mcp_federation.errors import (
    BusUnavailable,
    Conflict,
    InvalidRequest,
    NotExecutable,
    RegistrationRefused,
    ServerDown,
    ServerUnavailable,
)
from mcp_federation.node.publication import submissions
from mcp_federation.node.servers.config import BrokenSpec
from tests.conftest import Connect
from tests.support.http_peer import refused_url
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on, plain, state_of, toolbox
from tests.support.plain_servers import HANGS
from tests.support.sdk_servers import HttpServer, sdk_server

HIDDEN = "Tells the weather.\u200b And more."
TEXT = "Tells the weather of a place."
SDK_TOOLS = [tool.name for tool in asyncio.run(sdk_server().list_tools())]


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        yield mesh


@pytest.fixture
async def http() -> AsyncIterator[HttpServer]:
    async with HttpServer() as server:
        yield server


async def submit(
    mesh: Mesh, name: str = "weather", description: str = TEXT, **fields: Any
) -> SubmissionAnswer:
    return await send(mesh, encode(Submission(name=name, description=description, **fields)))


async def send(mesh: Mesh, payload: bytes) -> SubmissionAnswer:
    reply = await mesh.bus.request(SUBMIT.of("acme"), payload, timeout=30)
    if Header.ERROR_CODE in reply.headers:
        assert decode(reply.payload, ErrorReply).message
        raise_error_reply(reply.payload)
    return decode(reply.payload, SubmissionAnswer)


def sdk_names(server: str) -> set[str]:
    return {f"{server}.{tool}" for tool in SDK_TOOLS}


async def test_a_described_tool_is_published_as_described_only(mesh: Mesh) -> None:
    node = await mesh.node()
    schema = msgspec.Raw(b'{"type":"object","properties":{"place":{"type":"string"},"day":{}}}')
    answer = await submit(
        mesh, version="1.2.3", source_repo="https://git.example/weather", input_schema=schema
    )
    assert answer.published == ("weather",)
    assert [verdict.decision for verdict in answer.verdicts] == ["approved"]
    await mesh.shows({"weather"})
    (tool,) = mesh.catalog.state.tools()
    assert not tool.executable
    assert (tool.tool.version, tool.tool.parameters) == ("1.2.3", ("place", "day"))
    assert tool.entry.source_repo == "https://git.example/weather"
    with pytest.raises(NotExecutable):
        await mesh.call("weather", place="Oslo")
    await mesh.agrees(node)


async def test_a_tool_without_a_schema_takes_an_object(mesh: Mesh) -> None:
    await mesh.node()
    without: dict[str, Any] = {}
    for name, fields in (("a", without), ("b", {"input_schema": msgspec.Raw(b"null")})):
        await submit(mesh, name, **fields)
    await mesh.shows({"a", "b"})
    assert {bytes(tool.tool.input_schema) for tool in mesh.catalog.state.tools()} == {b'{"type":"object"}'}


async def test_the_tools_of_a_submitted_server_are_executable(mesh: Mesh, http: HttpServer) -> None:
    node = await mesh.node()
    answer = await submit(mesh, server_url=http.url)
    assert set(answer.published) == sdk_names("weather")
    await mesh.shows(sdk_names("weather"))
    assert await mesh.call("weather.echo", text="rain") == "rain"
    await mesh.agrees(node)
    presence = await mesh.heard(lambda presence: bool(presence.servers))
    assert [(server.name, server.state) for server in presence.servers] == [("weather", "ready")]


async def test_a_refused_submission_tells_why_and_leaves_nothing(mesh: Mesh, http: HttpServer) -> None:
    await mesh.node()
    for fields in ({}, {"server_url": http.url}):
        with pytest.raises(RegistrationRefused) as caught:
            await submit(mesh, description=HIDDEN, **fields)
        (finding, *_) = caught.value.details["findings"]
        assert finding.keys() >= {"rule", "severity", "where", "why", "remedy"}
        assert caught.value.details["decision"] == "rejected"
    assert mesh.names() == set()
    assert await mesh.bus.last(SUBMISSION_STREAM, SUBMISSION.of("acme", "weather")) is None


async def test_of_a_submitted_server_only_approved_tools_are_published(mesh: Mesh) -> None:
    server = toolbox("any", "good", "bad")
    server.remove_tool("bad")
    server.add_tool(len, name="bad", description=HIDDEN)
    await mesh.node()
    async with HttpServer(server) as http:
        answer = await submit(mesh, server_url=http.url)
        assert answer.published == ("weather.good",)
        assert {verdict.name: verdict.decision for verdict in answer.verdicts} == {
            "weather.good": "approved",
            "weather.bad": "rejected",
        }
        server.remove_tool("good")
        with pytest.raises(RegistrationRefused):
            await submit(mesh, "another", server_url=http.url)


async def test_a_server_that_cannot_be_reached_is_refused(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mesh.node()
    with pytest.raises(ServerUnavailable, match="cannot be reached"):
        await submit(mesh, server_url=f"{refused_url()}/mcp")
    assert await mesh.bus.last(SUBMISSION_STREAM, SUBMISSION.of("acme", "weather")) is None
    assert not (await mesh.heard(lambda _: True)).servers
    with pytest.raises(InvalidRequest, match="http"):
        await submit(mesh, server_url="file:///etc/passwd")


async def test_a_server_that_does_not_answer_in_time_is_refused(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "REACH_TIMEOUT", 0.2)
    await mesh.node()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnavailable, match=r"within 0\.2 s"):
            await submit(mesh, server_url=f"http://127.0.0.1:{port}/mcp")


async def test_a_server_without_tools_is_refused(mesh: Mesh) -> None:
    await mesh.node()
    async with HttpServer(MCPServer("empty")) as http:
        with pytest.raises(InvalidRequest, match="no tool"):
            await submit(mesh, server_url=http.url)


async def test_a_name_that_is_taken_is_a_conflict(mesh: Mesh, http: HttpServer) -> None:
    single, box = toolbox("single", "only"), toolbox("box", "a", "weather.echo")
    await mesh.node({**boxed(single, box), "gone": BrokenSpec("gone")})
    await mesh.shows({"only", "box.a", "box.weather.echo"})
    for name in ("single", "only", "box", "box.a", "gone"):
        with pytest.raises(Conflict, match=name):
            await submit(mesh, name)
    # Its tool "echo" would be "box.weather.echo".
    with pytest.raises(Conflict, match=r"box\.weather\.echo"):
        await submit(mesh, "box.weather", server_url=http.url)
    await mesh.shows({"only", "box.a", "box.weather.echo"})


async def test_the_name_of_a_tool_that_was_refused_is_taken_too(mesh: Mesh) -> None:
    server = toolbox("box", "a")
    server.add_tool(len, name="b", description=HIDDEN)
    await mesh.node(boxed(server))
    await mesh.heard(lambda presence: bool(presence.refused))
    with pytest.raises(Conflict):
        await submit(mesh, "box.b")


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense",
        b'{"type":"submission","name":"","description":"Tells the weather."}',
        b'{"type":"submission","name":"' + b"x" * 255 + "é".encode() + b'","description":"A text."}',
        b'{"type":"submission","name":"a","description":"Tells the weather.","input_schema":[]}',
        b'{"type":"submission","name":"a","description":"Tells the weather.","input_schema":7}',
    ],
)
async def test_a_malformed_submission_is_refused(mesh: Mesh, payload: bytes) -> None:
    await mesh.node()
    with pytest.raises(InvalidRequest):
        await send(mesh, payload)


async def test_a_submission_replaces_the_one_of_its_name(mesh: Mesh, http: HttpServer) -> None:
    node = await mesh.node()
    await submit(mesh)
    await submit(mesh, description="Tells the weather of tomorrow.")
    await mesh.until(
        lambda: (
            [tool.tool.description for tool in mesh.catalog.state.tools()]
            == ["Tells the weather of tomorrow."]
        )
    )
    await submit(mesh, server_url=http.url)
    await mesh.shows(sdk_names("weather"))
    assert await mesh.call("weather.echo", text="rain") == "rain"
    async with HttpServer(toolbox("any", "echo", "other")) as second:
        await submit(mesh, server_url=second.url)
        await mesh.shows({"weather.echo", "weather.other"})
        assert await mesh.call("weather.echo", text="snow") == "snow"
        await submit(mesh)
        await mesh.shows({"weather"})
    assert "weather" not in node.servers
    await mesh.agrees(node)


async def test_the_same_submission_again_changes_nothing(mesh: Mesh, http: HttpServer) -> None:
    await mesh.node()
    for _ in range(2):
        assert set((await submit(mesh, server_url=http.url)).published) == sdk_names("weather")
    await mesh.shows(sdk_names("weather"))


async def test_what_was_submitted_is_there_after_a_restart(mesh: Mesh, http: HttpServer) -> None:
    node = await mesh.node(boxed(toolbox("box", "a", "b")))
    await submit(mesh, "described")
    await submit(mesh, server_url=http.url)
    everything = sdk_names("weather") | {"described", "box.a", "box.b"}
    await mesh.shows(everything)
    await mesh.leave(node)
    node = await mesh.node(boxed(toolbox("box", "a", "b")))
    await mesh.ready(node, "box")
    await mesh.ready(node, "weather")
    assert await mesh.call("weather.echo", text="rain") == "rain"
    await mesh.agrees(node)
    assert mesh.names() == everything


async def test_a_submitted_server_that_is_down_at_the_restart_comes_back(
    mesh: Mesh, http: HttpServer
) -> None:
    node = await mesh.node()
    await submit(mesh, server_url=http.url)
    await mesh.leave(node)
    await http.stop()
    # Another server that is slow to start keeps the node from settling.
    node = await mesh.node({"slow": plain(HANGS)})
    await mesh.heard(lambda presence: state_of(presence, "weather").state == "failed")
    with pytest.raises(ServerDown):
        await mesh.call("weather.echo", text="rain")
    await http.start()
    await mesh.ready(node, "weather", restarts=1)
    assert await mesh.call("weather.echo", text="rain") == "rain"


async def test_a_server_that_is_configured_now_wins_over_a_submission(mesh: Mesh) -> None:
    node = await mesh.node()
    await submit(mesh, "box")
    await mesh.leave(node)
    await mesh.node(boxed(toolbox("box", "a", "b")))
    await mesh.shows({"box.a", "box.b"})


async def test_replicas_of_a_node_both_adopt(mesh: Mesh, http: HttpServer) -> None:
    nodes = [await mesh.node() for _ in range(2)]
    await submit(mesh, "described")
    await submit(mesh, server_url=http.url)
    hashes = set()
    for node in nodes:
        instance = node.presence().instance
        presence = await mesh.heard(
            lambda heard, instance=instance: (
                heard.instance == instance  # type: ignore[misc]
                and heard.tools == len(SDK_TOOLS) + 1
            )
        )
        hashes.add(presence.catalog_hash)
        assert node.registrar.get("weather.echo") is not None
    assert len(hashes) == 1
    await asyncio.gather(*(mesh.call("weather.echo", text="rain") for _ in range(16)))


async def test_a_submission_that_cannot_be_kept_is_refused(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await mesh.node()

    async def failing(*_: object, **__: object) -> int:
        raise BusUnavailable("the stream does not answer")

    monkeypatch.setattr(node._bus, "store", failing)
    with pytest.raises(BusUnavailable):
        await submit(mesh)
    monkeypatch.undo()
    assert (await submit(mesh)).published == ("weather",)


async def test_a_replaced_server_does_not_hold_up_what_an_earlier_run_left(mesh: Mesh) -> None:
    """A server that is let go before it settled counts as settled."""
    node = await mesh.node(boxed(toolbox("old", "a", "b")))
    await mesh.shows({"old.a", "old.b"})
    await mesh.leave(node)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        hanging = Submission(name="weather", description=TEXT, server_url=f"http://127.0.0.1:{port}/mcp")
        await mesh.bus.store(SUBMISSION.of("acme", "weather"), encode(hanging))
        await mesh.node(start_timeout=60)
        await submit(mesh)
        await mesh.shows({"weather"})


async def test_a_plain_server_beside_submissions_keeps_its_tools(mesh: Mesh) -> None:
    await mesh.node({"plain": plain(), **boxed(sdk_server("box"))})
    await submit(mesh)
    await mesh.has("weather", "plain.echo", "box.echo")
