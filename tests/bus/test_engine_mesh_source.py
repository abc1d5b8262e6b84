"""The engine over a mesh: its tools are the catalog's, live, measured and executable."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.protocol import Delivery, Reply
from mcp_federation.contract.mcp import CallResult, decode_params
from mcp_federation.contract.messages import Performance, Tally, encode
from mcp_federation.contract.subjects import (
    CANCEL,
    CATALOG_STREAM,
    EXECUTE,
    PERFORMANCE,
    PERFORMANCE_STREAM,
    RULING_STREAM,
)
from mcp_federation.engine.federated import FederatedRAGMCPEngine
from mcp_federation.engine.sources.mesh import NatsMesh
from mcp_federation.errors import BusUnavailable, InvalidRequest
from tests.support.nats_server import NatsServer
from tests.support.publishing import Publisher
from tests.support.waiting import eventually


@pytest.fixture
async def publisher(own_nats_server: NatsServer) -> AsyncIterator[Publisher]:
    async with await NatsBus.connect(own_nats_server.url) as bus:
        for stream in (CATALOG_STREAM, RULING_STREAM, PERFORMANCE_STREAM):
            await bus.ensure_stream(stream)
        publisher = Publisher(bus)

        async def echo(delivery: Delivery) -> Reply:
            arguments = decode_params(delivery.payload).arguments
            return Reply(encode(CallResult(structured_content={"result": arguments})))

        async def ignore(_: Delivery) -> None:
            """Nothing here takes long enough to be cancelled."""

        await bus.respond(EXECUTE.every("acme"), echo)
        await bus.subscribe(CANCEL.of("acme"), ignore)
        await bus.flush()
        yield publisher


def make_engine(
    server: NatsServer, publisher: Publisher, discover_timeout: float = 5.0
) -> FederatedRAGMCPEngine:
    return FederatedRAGMCPEngine(
        enable_llm_validation=False,
        nodes=[server.url],
        trusted_keys=[str(publisher.approver.public)],
        discover_timeout=discover_timeout,
    )


def remote(engine: FederatedRAGMCPEngine) -> set[str]:
    return {spec.name for spec in engine.pareto_registry.mcps if "@" in spec.name}


def available(engine: FederatedRAGMCPEngine, name: str) -> bool:
    spec = engine.pareto_registry.get_mcp_by_name(name)
    assert spec is not None
    return bool(spec.metadata["available"])


async def test_a_new_engine_has_the_mesh_s_tools_at_once_and_can_run_them(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("orbit_calculator", "Computes the orbit of a satellite around a planet.")
    await publisher.publish("unapproved", approval="forged")
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    assert remote(engine) == {"orbit_calculator@acme"}
    assert await engine.execute("orbit_calculator", "by position") == {"text": "by position"}
    assert await engine.execute("orbit_calculator@acme", text="by name") == {"text": "by name"}


async def test_it_follows_the_mesh_while_it_is_open(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("first")
    async with await asyncio.to_thread(make_engine, own_nats_server, publisher) as engine:
        await publisher.publish("orbit_calculator", "Computes the orbit of a satellite around a planet.")
        await eventually(lambda: remote(engine) == {"first@acme", "orbit_calculator@acme"})
        best = await engine.get_mcp_recommendations("compute the orbit of a satellite")
        assert best[0]["name"] == "orbit_calculator@acme"
        assert await engine.execute("orbit_calculator", text="live") == {"text": "live"}
        await publisher.presence()
        await publisher.presence(status="leaving")
        await eventually(lambda: not available(engine, "first@acme"))
        await publisher.withdraw("first")
        await eventually(lambda: remote(engine) == {"orbit_calculator@acme"})
    assert remote(engine) == {"orbit_calculator@acme"}


# What the loop that ended left open is closed as it is forgotten, of which Python warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_engine_goes_on_in_another_event_loop_after_the_one_that_it_was_opened_in_has_ended(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("first")
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    await asyncio.to_thread(asyncio.run, engine.initialize())
    assert await engine.execute("first", text="called") == {"text": "called"}
    await publisher.publish("second")
    await engine.refresh()
    gc.collect()
    assert remote(engine) == {"first@acme", "second@acme"}
    async with engine:
        await publisher.publish("third")
        await eventually(lambda: "third@acme" in remote(engine))


async def test_a_mesh_that_is_down_at_the_start_is_followed_once_it_is_up(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("first")
    own_nats_server.kill()
    made = await asyncio.to_thread(make_engine, own_nats_server, publisher, discover_timeout=0.3)
    async with made as engine:
        assert remote(engine) == set()
        own_nats_server.start()
        await eventually(lambda: remote(engine) == {"first@acme"})
        await publisher.publish("second")
        await eventually(lambda: remote(engine) == {"first@acme", "second@acme"})


async def test_the_tools_of_a_node_that_was_gone_before_are_unavailable_from_the_start(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("here")
    gone = Publisher(publisher.bus, "globex", publisher.approver)
    await gone.publish("gone")
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    assert [available(engine, name) for name in ("here@acme", "gone@globex")] == [True, False]
    async with engine:
        assert [available(engine, name) for name in ("here@acme", "gone@globex")] == [True, False]
        await gone.presence()
        await eventually(lambda: available(engine, "gone@globex"))


async def test_measured_performance_replaces_the_prior_figures(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("tool")
    recent = {"globex": Tally(count=100, successes=50, cost=1.0)}
    measured = Performance(
        node="acme", tool="tool", count=100, successes=50, observed=100, cost_total=1e9, recent=recent
    )
    await publisher.bus.store(PERFORMANCE.of("acme", "tool"), encode(measured))
    unused = Performance(node="acme", tool="unused", count=0, successes=0)
    await publisher.bus.store(PERFORMANCE.of("acme", "unused"), encode(unused))
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    spec = engine.pareto_registry.get_mcp_by_name("tool@acme")
    assert spec is not None
    assert (spec.usage_frequency, spec.reliability_score, spec.cost_efficiency) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("observed", "reporters", "usage"),
    [
        (0, ["acme"], 0.5),
        (10**9, ["friend"], 0.5),
        (50, ["globex"], 1 / 3),
        (10**9, ["a", "b", "acme"], 2 / 3),
    ],
)
async def test_however_many_executions_are_claimed_a_reporter_counts_for_a_hundred(
    own_nats_server: NatsServer, publisher: Publisher, observed: int, reporters: list[str], usage: float
) -> None:
    await publisher.publish("tool")
    count = observed or 10**9
    recent = {reporter: Tally(count=100, successes=100) for reporter in reporters}
    claimed = Performance(
        node="acme", tool="tool", count=count, successes=count, observed=observed, recent=recent
    )
    await publisher.bus.store(PERFORMANCE.of("acme", "tool"), encode(claimed))
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    spec = engine.pareto_registry.get_mcp_by_name("tool@acme")
    assert spec is not None
    assert spec.usage_frequency == pytest.approx(usage)


async def test_an_execution_that_its_caller_and_its_provider_report_counts_once_in_usage(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("tool")
    both = {reporter: Tally(count=50, successes=50) for reporter in ("acme", "globex")}
    reported = Performance(node="acme", tool="tool", count=100, successes=100, observed=50, recent=both)
    await publisher.bus.store(PERFORMANCE.of("acme", "tool"), encode(reported))
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    spec = engine.pareto_registry.get_mcp_by_name("tool@acme")
    assert spec is not None
    assert spec.usage_frequency == pytest.approx(50 / 150)


async def test_a_performance_under_another_tools_subject_is_not_believed(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    await publisher.publish("tool")
    forged = Performance(node="acme", tool="tool", count=1000, successes=0)
    await publisher.bus.store(PERFORMANCE.of("evil", "tool"), encode(forged))
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    assert engine.pareto_registry.performance("tool@acme") is None


async def test_a_mesh_that_is_down_costs_its_own_tools_only(
    own_nats_server: NatsServer, publisher: Publisher
) -> None:
    down = NatsMesh("nats://127.0.0.1:1", [publisher.approver.public], discover_timeout=0.3)
    with pytest.raises(BusUnavailable):
        await down.load()
    with pytest.raises(BusUnavailable):
        await down.start(lambda: None)
    assert list(down.entries()) == []
    await publisher.publish("tool")
    engine = await asyncio.to_thread(
        lambda: FederatedRAGMCPEngine(
            enable_llm_validation=False,
            nodes=f"nats://127.0.0.1:1,{own_nats_server.url}",
            trusted_keys=[str(publisher.approver.public)],
        )
    )
    assert remote(engine) == {"tool@acme"}


async def test_a_mesh_without_measured_performance_is_a_mesh_all_the_same(
    own_nats_server: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_federation.engine.sources.mesh.PERFORMANCE_TIMEOUT", 0.0)
    await publisher.publish("tool")
    engine = await asyncio.to_thread(make_engine, own_nats_server, publisher)
    assert remote(engine) == {"tool@acme"}


def test_its_label_hides_credentials_and_it_needs_a_key_to_trust() -> None:
    with pytest.raises(InvalidRequest, match="TRUSTED_KEYS"):
        NatsMesh("nats://127.0.0.1:4222", [])
    with pytest.raises(InvalidRequest):
        NatsMesh("nats://[nonsense", [])
    engine = FederatedRAGMCPEngine(enable_llm_validation=False, nodes="nats://secret@127.0.0.1:4222")
    assert remote(engine) == set()


async def test_its_label_is_its_address(publisher: Publisher) -> None:
    mesh = NatsMesh("nats://user:secret@hub.example:4222", [publisher.approver.public])
    assert mesh.label == "nats://hub.example:4222"
