import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.memory_broker import MemoryBroker
from mcp_federation.contract.messages import RefusedTool, ServerState
from mcp_federation.contract.subjects import CATALOG_STREAM, RULING_STREAM
from mcp_federation.errors import DeadlineExceeded
from mcp_federation.mesh.readiness import RunningServer, wait_for_edge, wait_for_file, wait_for_nodes
from tests.support.publishing import Publisher


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    async with MemoryBus(MemoryBroker()) as bus:
        await bus.ensure_stream(CATALOG_STREAM)
        await bus.ensure_stream(RULING_STREAM)
        yield Publisher(bus)


async def nodes_of(publisher: Publisher, *nodes: str, timeout: float = 10.0) -> list[RunningServer]:
    return await wait_for_nodes(publisher.bus, str(publisher.approver.public), nodes, timeout)


async def says(publisher: Publisher, *servers: ServerState, refused: tuple[str, ...] = ()) -> None:
    await publisher.presence(
        servers=servers, refused=tuple(RefusedTool(name=name, decision="rejected") for name in refused)
    )


def server(name: str, state: str = "ready", tools: int = 0) -> ServerState:
    return ServerState(name=name, state=state, tools=tools)  # type: ignore[arg-type]  # one of the four


async def heard(
    publisher: Publisher,
    waiting: asyncio.Future[list[RunningServer]],
    *servers: ServerState,
    refused: tuple[str, ...] = (),
    beats: int = 1000,
) -> None:
    """Say that often how the servers do, as a node does until somebody listens."""
    for _ in range(beats):
        await says(publisher, *servers, refused=refused)
        if (await asyncio.wait((waiting,), timeout=0.01))[0]:
            return


async def test_a_node_is_ready_when_the_tools_of_its_servers_are_in_the_catalog(publisher: Publisher) -> None:
    waiting = asyncio.ensure_future(nodes_of(publisher, "acme"))
    await publisher.publish("time.now", server="time")
    await heard(publisher, waiting, server("time", "starting"), beats=3)
    await heard(publisher, waiting, server("time", tools=2), beats=3)
    assert not waiting.done()
    await publisher.publish("time.convert", server="time")
    await heard(publisher, waiting, server("time", tools=2))
    (found,) = waiting.result()
    assert (found.node, found.state.name, found.tools) == ("acme", "time", ("time.convert", "time.now"))


async def test_a_failed_server_does_not_keep_the_mesh_from_being_ready(publisher: Publisher) -> None:
    await publisher.publish("time.now", server="time")
    waiting = asyncio.ensure_future(nodes_of(publisher, "acme"))
    await heard(publisher, waiting, server("bad", "failed"), server("time", tools=1))
    assert [(one.state.name, one.state.state) for one in waiting.result()] == [
        ("bad", "failed"),
        ("time", "ready"),
    ]


async def test_a_refused_tool_is_not_waited_for(publisher: Publisher) -> None:
    waiting = asyncio.ensure_future(nodes_of(publisher, "acme"))
    await heard(publisher, waiting, server("time", tools=1), refused=("time.now",))
    assert waiting.result()[0].tools == ()


async def test_a_silent_node_is_named_when_the_time_is_over(publisher: Publisher) -> None:
    with pytest.raises(DeadlineExceeded, match="globex"):
        await nodes_of(publisher, "globex", timeout=0.05)


async def test_a_file_is_read_once_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "key"
    asyncio.get_running_loop().call_later(0.02, path.write_text, "ed25519:x\n")
    assert await wait_for_file(path, 10) == "ed25519:x"


async def test_a_file_that_does_not_come_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match="key was not written"):
        await wait_for_file(tmp_path / "key", 0.01)


async def test_an_edge_is_ready_when_it_says_so() -> None:
    answers = iter([b"503 Not", b"200 OK"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + next(answers) + b"\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as edge:
        await wait_for_edge(f"http://127.0.0.1:{edge.sockets[0].getsockname()[1]}", 10)
    assert next(answers, None) is None


async def test_an_edge_that_does_not_answer_is_not_waited_for_forever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeadlineExceeded, match="edge"):
        await wait_for_edge(f"http://127.0.0.1:{port}", 0.01)
