"""`POST|GET /metadata`, on both buses."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcp_federation.bus.protocol import Bus, Stored
from mcp_federation.contract.messages import (
    Record,
    RecordBatch,
    Statistics,
    StatisticsBatch,
    Tally,
    Tool,
    decode,
    encode,
)
from mcp_federation.contract.subjects import CATALOG_STREAM, METRICS, METRICS_STREAM, RULING_STREAM
from mcp_federation.edge import metadata_log
from tests.conftest import Connect
from tests.support.edge_mesh import HOME, BusNode, Edge, edge_settings, ensure_streams, running_edge


@pytest.fixture
async def edge(bus: Bus) -> AsyncIterator[Edge]:
    await ensure_streams(bus)
    async with running_edge(bus, edge_settings(sharing="records")) as running:
        yield running


def record(name: str = "file_operations_mcp", **fields: Any) -> dict[str, Any]:
    return {"mcp_name": name, "success": True, "latency_ms": 85, "cost": 0.0003, **fields}


async def succeed() -> dict[str, Any]:
    return {"content": [], "structuredContent": {}}


async def known(edge: Edge, query: str = "") -> list[dict[str, Any]]:
    answer = await edge.get("/metadata" + query)
    assert answer.status == 200
    records: list[dict[str, Any]] = answer.json
    return records


async def test_a_record_is_there_as_soon_as_it_was_uploaded(edge: Edge) -> None:
    answer = await edge.post("/metadata", [record()])
    assert (answer.status, answer.body) == (204, b"")
    assert await known(edge) == [
        {
            "mcp_name": "file_operations_mcp",
            "success": True,
            "latency_ms": 85,
            "cost": 0.0003,
            "error_kind": None,
            "node": HOME,
            "tool": "file_operations_mcp",
        }
    ]


async def test_records_come_newest_first_and_no_more_than_asked_for(edge: Edge) -> None:
    await edge.post("/metadata", [record("a"), record("b")])
    await edge.post("/metadata", [record("c")])
    assert [item["mcp_name"] for item in await known(edge)] == ["c", "b", "a"]
    assert [item["mcp_name"] for item in await known(edge, "?limit=2")] == ["c", "b"]


async def test_an_answer_has_five_hundred_records_at_most(edge: Edge) -> None:
    await edge.post("/metadata", [record(f"t{number}") for number in range(501)])
    names = [item["mcp_name"] for item in await known(edge)]
    assert (len(names), names[0], names[-1]) == (500, "t500", "t1")


async def test_records_are_found_by_node_tool_and_success(edge: Edge) -> None:
    await edge.post("/metadata", [record("a"), record("b@zeta", success=False), record("a@zeta")])

    async def names(query: str) -> list[str]:
        return [item["mcp_name"] for item in await known(edge, query)]

    assert await names("?node=zeta") == ["a@zeta", "b@zeta"]
    assert await names("?tool=a") == ["a@zeta", "a"]
    assert await names("?success=false") == ["b@zeta"]
    assert await names("?tool=a&node=zeta&success=true&limit=1") == ["a@zeta"]
    assert await names("?node=nobody") == []
    assert (await edge.get("/metadata?success=perhaps")).status == 400


async def test_what_is_found_may_lie_behind_five_hundred_others(edge: Edge) -> None:
    await edge.post("/metadata", [record("old", success=False)])
    await edge.post("/metadata", [record("new")] * 600)
    assert [item["mcp_name"] for item in await known(edge, "?success=false")] == ["old"]


async def test_without_a_policy_of_sharing_records_an_upload_stays_with_its_edge(bus: Bus) -> None:
    await ensure_streams(bus)
    kept: asyncio.Queue[Stored] = asyncio.Queue()
    await bus.follow(METRICS_STREAM, kept.put)
    async with running_edge(bus, edge_settings(privacy_k=10)) as edge:
        assert (await edge.post("/metadata", [record("x@zeta")] * 9)).status == 204
        assert [item["mcp_name"] for item in await known(edge)] == ["x@zeta"] * 9
        assert kept.empty()
        await edge.post("/metadata", [record("x@zeta", latency_ms=77)] * 3)
        async with asyncio.timeout(10):
            stored = await kept.get()
        [released] = decode(stored.payload, StatisticsBatch).statistics
        assert (released.node, released.tool, released.tally.count) == ("zeta", "x", 12)


async def test_a_release_of_statistics_is_one_entry(edge: Edge, bus: Bus) -> None:
    tally = Tally(count=20, successes=15.0, log_latency=15 * math.log(80), cost=2.0)
    released = StatisticsBatch(
        statistics=(
            Statistics(node="zeta", tool="x", tally=tally),
            Statistics(node="zeta", tool="y", tally=Tally(count=20, successes=-3.0)),
        )
    )
    zeta = BusNode(bus, "zeta")
    for name in ("x", "y"):
        await zeta.publish(Tool(name=name))
        await edge.sees_tool("zeta", name)
    await bus.store(METRICS.of("acme"), encode(released))
    await edge.post("/metadata", [record("x@zeta")])
    exact, failing, good = await known(edge)
    assert "count" not in exact
    assert good == {
        "mcp_name": "x@zeta",
        "success": True,
        "latency_ms": 80.0,
        "cost": 0.1,
        "error_kind": None,
        "node": "zeta",
        "tool": "x",
        "count": 20,
        "success_rate": 0.75,
    }
    assert (failing["success"], failing["latency_ms"], failing["success_rate"]) == (False, 0, 0)


async def test_what_others_report_is_shown_of_known_tools_and_by_known_kinds_of_error(
    edge: Edge, bus: Bus
) -> None:
    await BusNode(bus, "acme").publish(Tool(name="t"))
    await edge.sees_tool("acme", "t")

    def failed(tool: str, kind: str) -> Record:
        return Record(node="acme", tool=tool, success=False, latency_ms=1.0, error_kind=kind)

    forged = failed("t", "user=bob; secret"), failed("no_such", "tool_failed"), failed("t", "node_lost")
    await bus.store(METRICS.of("evil"), encode(RecordBatch(records=forged)))
    await edge.post("/metadata", [record("mine")])
    shown = [(item["mcp_name"], item["error_kind"]) for item in await known(edge)]
    assert shown == [("mine", None), ("t@acme", "node_lost"), ("t@acme", "other")]


async def test_what_became_of_calls_to_other_nodes_is_reported_and_only_that(bus: Bus) -> None:
    await ensure_streams(bus)
    kept: asyncio.Queue[Stored] = asyncio.Queue()
    await bus.follow(METRICS_STREAM, kept.put)
    async with running_edge(bus, edge_settings(sharing="records")) as edge:
        for name in ("acme", HOME):
            node = BusNode(bus, name)
            await node.start()
            await node.publish(Tool(name="t"), succeed)
            await node.appear()
            await edge.sees_tool(name, "t")
            call = {"mcp_name": f"t@{name}", "args": [], "kwargs": {}}
            assert (await edge.post("/execute", call)).status == 200
        async with asyncio.timeout(10):
            stored = await kept.get()
    assert stored.subject == METRICS.of(HOME)
    [only] = decode(stored.payload, RecordBatch).records
    assert (only.node, only.tool, only.success) == ("acme", "t", True)


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "", "1.5", "٣", "9" * 5000, "1&limit=2"])
async def test_a_limit_out_of_bounds_is_refused(edge: Edge, limit: str) -> None:
    assert (await edge.get(f"/metadata?limit={limit}")).status == 400


async def test_nothing_is_kept_of_an_empty_upload(edge: Edge) -> None:
    assert (await edge.post("/metadata", [])).status == 204
    assert await known(edge) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"mcp_name": "a"},
        [{"mcp_name": "a", "success": True}],
        [record(latency_ms=-1)],
        [record(latency_ms="85")],
        [record(cost=-1)],
        [record(cost=1e9)],
        [record(success="yes")],
        [record(error_kind="x" * 65)],
        [record("")],
        [record("é" * 200)],
        [record()] * 1001,
    ],
)
async def test_an_upload_that_does_not_fit_is_refused_whole(edge: Edge, bad: Any) -> None:
    answer = await edge.post("/metadata", bad)
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert await known(edge) == []


async def test_an_upload_is_anonymised(edge: Edge) -> None:
    private = record(success=False, latency_ms=1234.5678, cost=None, error_kind="user bob at 10:04")
    timeout = record(success=False, error_kind="deadline_exceeded", caller="bob")
    await edge.post("/metadata", [private, timeout])
    second, first = await known(edge)
    assert (first["latency_ms"], first["cost"], first["error_kind"]) == (1230, 0, "other")
    assert second["error_kind"] == "deadline_exceeded"
    assert "caller" not in second


async def test_records_of_other_nodes_tools_keep_their_federated_names(edge: Edge, bus: Bus) -> None:
    acme = BusNode(bus, "acme")
    await acme.publish(Tool(name="theirs"))
    await edge.sees_tool("acme", "theirs")
    await edge.post("/metadata", [record("theirs"), record("x@zeta"), record(f"mine@{HOME}")])
    shown = [(item["mcp_name"], item["node"], item["tool"]) for item in await known(edge)]
    assert shown == [("mine", HOME, "mine"), ("x@zeta", "zeta", "x"), ("theirs@acme", "acme", "theirs")]


async def test_an_upload_is_kept_for_all_in_the_home_nodes_name(edge: Edge, bus: Bus) -> None:
    await edge.post("/metadata", [record("x@zeta")])
    kept: asyncio.Queue[Stored] = asyncio.Queue()
    await bus.follow(METRICS_STREAM, kept.put)
    async with asyncio.timeout(10):
        stored = await kept.get()
    assert stored.subject == METRICS.of(HOME)
    (only,) = decode(stored.payload, RecordBatch).records
    assert (only.node, only.tool) == ("zeta", "x")


async def test_an_edge_that_starts_later_knows_what_went_before(connect: Connect) -> None:
    first, second = await connect(), await connect()
    await ensure_streams(first)
    batch = RecordBatch(records=(Record(node="acme", tool="t", success=True, latency_ms=1.0),))
    await first.store(METRICS.of("acme"), b"nonsense")
    await first.store(METRICS.of("acme"), encode(batch))
    await BusNode(first, "acme").publish(Tool(name="t"))
    async with running_edge(second) as edge:
        await edge.sees_tool("acme", "t")
        assert [item["mcp_name"] for item in await known(edge)] == ["t@acme"]


async def test_without_the_stream_an_upload_says_that_it_was_not_kept(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_log, "READ_TIMEOUT", 0.01)
    await bus.ensure_stream(CATALOG_STREAM)
    await bus.ensure_stream(RULING_STREAM)
    async with running_edge(bus, edge_settings(sharing="records")) as edge:
        answer = await edge.post("/metadata", [record()])
        assert (answer.status, answer.json["code"]) == (503, "bus_unavailable")
        assert await known(edge) == []


async def test_an_upload_that_is_slow_to_come_back_was_still_taken(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_log, "ECHO_TIMEOUT", 0.01)
    await edge.metadata.stop()
    assert (await edge.post("/metadata", [record()])).status == 204
