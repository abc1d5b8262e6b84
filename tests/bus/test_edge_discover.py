"""`GET /discover` and the two health paths, on both buses."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.contract.messages import RefusedTool, ServerState, Tool
from mcp_federation.edge import discovery
from mcp_federation.edge.wire import ToolSummary
from tests.support.edge_mesh import (
    HOME,
    BusNode,
    Edge,
    edge_settings,
    ensure_streams,
    running_edge,
    schema_of,
)


async def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


@pytest.fixture
async def home(bus: Bus) -> BusNode:
    await ensure_streams(bus)
    node = BusNode(bus)
    await node.start()
    return node


@pytest.fixture
async def edge(bus: Bus, home: BusNode) -> AsyncIterator[Edge]:
    async with running_edge(bus) as running:
        yield running


async def nothing() -> dict[str, Any]:
    return await text("")


async def test_a_tool_is_shown_with_everything_that_is_known_of_it(edge: Edge, home: BusNode) -> None:
    tool = Tool(
        name="file_operations_mcp",
        title="Files",
        description="File operations tool",
        version="1.0.0",
        input_schema=schema_of("operation", "source_path", required=("operation",)),
        output_schema=Raw(b'{"type":"object"}'),
        annotations=Raw(b'{"readOnlyHint":true}'),
    )
    entry = await home.publish(tool, nothing, server="files", source_repo="https://example.org/files")
    await home.appear()
    await edge.sees_tool(HOME, "file_operations_mcp")
    (shown,) = (await edge.get("/discover")).json
    assert shown == {
        "name": "file_operations_mcp",
        "description": "File operations tool",
        "version": "1.0.0",
        "title": "Files",
        "node": HOME,
        "local_name": "file_operations_mcp",
        "federated_name": f"file_operations_mcp@{HOME}",
        "digest": entry.digest,
        "available": True,
        "executable": True,
        "server": "files",
        "input_schema": {
            "type": "object",
            "properties": {"operation": {}, "source_path": {}},
            "required": ["operation"],
        },
        "output_schema": {"type": "object"},
        "annotations": {"readOnlyHint": True},
        "source_repo": "https://example.org/files",
    }


async def test_a_described_tool_is_not_executable_and_has_no_repository_to_show(
    edge: Edge, home: BusNode
) -> None:
    await home.publish(Tool(name="only_words"))
    await edge.sees_tool(HOME, "only_words")
    (shown,) = (await edge.get("/discover")).json
    assert shown["executable"] is False
    assert shown["title"] is shown["output_schema"] is shown["annotations"] is None
    assert "source_repo" not in shown


@pytest.fixture
async def three_nodes(edge: Edge, home: BusNode, bus: Bus) -> Edge:
    for name, tools in {"zeta": ["b", "a"], HOME: ["z", "like@acme"], "acme": ["a"]}.items():
        node = home if name == HOME else BusNode(bus, name)
        for tool in tools:
            await node.publish(
                Tool(name=tool, title=f"Title {tool}", description=f"Does {tool} Well"), nothing
            )
        await node.appear()
    await BusNode(bus, "acme").leave()
    await edge.sees(lambda: len(list(edge.catalog.state.tools())) == 5)
    await edge.sees(lambda: not edge.catalog.state.is_available("acme"))
    return edge


async def names(edge: Edge, query: str = "") -> list[str]:
    return [tool["name"] for tool in (await edge.get("/discover" + query)).json]


async def test_tools_of_the_home_node_come_first_and_have_plain_names(three_nodes: Edge) -> None:
    assert await names(three_nodes) == ["like@acme@home", "z", "a@acme", "a@zeta", "b@zeta"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?node=zeta", ["a@zeta", "b@zeta"]),
        ("?node=nobody", []),
        ("?available=false", ["a@acme"]),
        ("?available=true", ["like@acme@home", "z", "a@zeta", "b@zeta"]),
        ("?q=does+B", ["b@zeta"]),
        ("?q=TITLE%20z", ["z"]),
        ("?q=@zeta", ["a@zeta", "b@zeta"]),
        ("?q=nowhere", []),
        ("?q=a&node=zeta&available=true", ["a@zeta", "b@zeta"]),
    ],
)
async def test_filters_narrow_the_list(three_nodes: Edge, query: str, expected: list[str]) -> None:
    assert await names(three_nodes, query) == expected


@pytest.mark.parametrize(
    "query",
    ["?node=No!", "?node=", "?available=yes", "?available=", "?q=", "?q=" + "x" * 201, "?Node=a", "?q=a&q=b"],
)
async def test_a_bad_filter_is_refused(edge: Edge, query: str) -> None:
    answer = await edge.get("/discover" + query)
    assert answer.status == 400
    assert answer.json["code"] == "invalid_request"


async def test_a_tool_without_a_true_approval_is_not_shown(edge: Edge, home: BusNode) -> None:
    await home.publish(Tool(name="forged"), nothing, signed=False)
    await home.publish(Tool(name="true"), nothing)
    await edge.sees_tool(HOME, "true")
    assert await names(edge) == ["true"]
    (node,) = (await edge.get("/readyz")).json["nodes"]
    assert node["unverified"].keys() == {"forged"}


async def test_a_tool_whose_approval_expired_is_told_of(
    edge: Edge, home: BusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.publish(Tool(name="late"), nothing)
    await edge.sees_tool(HOME, "late")
    (node,) = (await edge.get("/readyz")).json["nodes"]
    assert (node["tools"], node["unverified"]) == (1, {})
    in_a_year = time.time() + 365 * 24 * 3600
    monkeypatch.setattr("mcp_federation.catalog.state.time.time", lambda: in_a_year)
    (node,) = (await edge.get("/readyz")).json["nodes"]
    assert (node["tools"], node["unverified"]) == (
        0,
        {"late": "its approval has expired, and was not renewed"},
    )


async def test_a_withdrawn_tool_is_gone(edge: Edge, home: BusNode) -> None:
    await home.publish(Tool(name="soon_gone"), nothing)
    await edge.sees_tool(HOME, "soon_gone")
    await home.withdraw("soon_gone")
    await edge.sees(lambda: edge.catalog.state.get(HOME, "soon_gone") is None)
    assert await names(edge) == []


async def test_before_the_catalog_was_read_nothing_is_claimed(bus: Bus, home: BusNode) -> None:
    async with running_edge(bus, replayed=lambda: False) as edge:
        for answer in (await edge.get("/discover"), await edge.post("/execute", {"mcp_name": "a"})):
            assert answer.status == 503
            assert answer.json["code"] == "bus_unavailable"
        readiness = await edge.get("/readyz")
        assert readiness.status == 503
        assert readiness.json["checks"]["catalog"] is False


async def test_a_living_process_says_ok(edge: Edge) -> None:
    answer = await edge.get("/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_the_edge_is_ready_once_its_home_node_is_there(edge: Edge, home: BusNode) -> None:
    answer = await edge.get("/readyz")
    assert answer.status == 503
    assert answer.json == {
        "status": "not_ready",
        "checks": {"bus": True, "catalog": True, "home_node": False},
        "nodes": [],
    }
    await home.appear()
    await edge.sees(lambda: HOME in edge.catalog.state.nodes)
    assert (await edge.get("/readyz")).status == 200
    await home.leave()
    await edge.sees(lambda: not edge.catalog.state.is_available(HOME))
    assert (await edge.get("/readyz")).status == 503


async def test_readiness_names_servers_that_failed_and_tools_that_were_refused(
    edge: Edge, home: BusNode, bus: Bus
) -> None:
    failed = ServerState(name="broken", state="failed", reason="exits at once", restarts=3)
    await home.publish(Tool(name="git.log"), nothing)
    await home.appear(
        servers=(ServerState(name="git", state="ready", tools=1), failed),
        refused=(RefusedTool(name="git.bad", decision="rejected", why="hidden text"),),
        in_flight=2,
    )
    await BusNode(bus, "acme").appear()
    await edge.sees_tool(HOME, "git.log")
    await edge.sees(lambda: {HOME, "acme"} <= edge.catalog.state.nodes.keys())
    await edge.sees(lambda: bool(edge.catalog.state.nodes[HOME].instances))
    first, second = (await edge.get("/readyz")).json["nodes"]
    assert first == {
        "name": HOME,
        "home": True,
        "available": True,
        "tools": 1,
        "in_flight": 2,
        "servers": [
            {"name": "git", "state": "ready", "reason": "", "tools": 1, "restarts": 0, "instance": "one"},
            {
                "name": "broken",
                "state": "failed",
                "reason": "exits at once",
                "tools": 0,
                "restarts": 3,
                "instance": "one",
            },
        ],
        "refused": [{"name": "git.bad", "decision": "rejected", "why": "hidden text"}],
        "unverified": {},
    }
    assert (second["name"], second["home"]) == ("acme", False)


async def test_others_have_their_turn_while_many_tools_are_listed(
    edge: Edge, home: BusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "AT_ONCE", 1)
    names = ["a", "b", "c"]
    for name in names:
        await home.publish(Tool(name=name))
        await edge.sees_tool(HOME, name)
    turns, listed_at = 0, []
    summary = discovery.Discover._summary

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noted(handler: discovery.Discover, tool: CatalogTool) -> ToolSummary:
        listed_at.append(turns)
        return summary(handler, tool)

    monkeypatch.setattr(discovery.Discover, "_summary", noted)
    other = asyncio.create_task(take_turns())
    answer = await edge.get("/discover")
    await stop_task(other)
    assert [tool["name"] for tool in answer.json] == names
    assert len(set(listed_at)) == len(names)


async def test_without_the_token_readiness_is_a_word_and_no_more(edge: Edge, home: BusNode) -> None:
    await home.appear()
    await edge.sees(lambda: HOME in edge.catalog.state.nodes)
    for sent in ("", "Bearer wrong"):
        answer = await edge.get("/readyz", headers={"Authorization": sent})
        assert (answer.status, answer.json) == (200, {"status": "ready"})


async def test_an_open_edge_tells_everyone(bus: Bus, home: BusNode) -> None:
    async with running_edge(bus, edge_settings(token=None)) as edge:
        assert "checks" in (await edge.get("/readyz")).json
