"""What choosers of a provider see of the mesh's measurements, on both buses."""

import asyncio
import math

import pytest
from structlog.testing import capture_logs

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.performance import HALF_LIFE, PerformanceView
from mcp_federation.contract.messages import Performance, Tally, encode
from mcp_federation.contract.subjects import PERFORMANCE, PERFORMANCE_STREAM
from mcp_federation.errors import DeadlineExceeded
from tests.support.waiting import eventually


async def publish(bus: Bus, node: str, tally: Tally, *, as_node: str = "") -> None:
    message = Performance(
        node=as_node or node, tool="add", count=int(tally.count), successes=0, recent={"globex": tally}
    )
    await bus.store(PERFORMANCE.of(node, "add"), encode(message))


def good(count: float, latency: float) -> Tally:
    log = math.log(latency)
    return Tally(count=count, successes=count, log_latency=count * log, log_latency_squares=count * log**2)


async def test_it_tells_a_good_provider_from_a_bad_one_and_follows_them(bus: Bus) -> None:
    await bus.ensure_stream(PERFORMANCE_STREAM)
    await publish(bus, "acme", good(90, 50))
    await publish(bus, "initech", Tally(count=90))
    view = PerformanceView(bus)
    await view.start()
    await view.caught_up(10)
    fast, failing = view.get("acme", "add"), view.get("initech", "add")
    assert fast is not None
    assert failing is not None
    assert fast.success_probability > 0.95
    assert fast.p50_ms == pytest.approx(50, rel=0.1)
    assert failing.success_probability < 0.1
    assert view.get("acme", "other") is None
    await publish(bus, "initech", good(90, 20))
    await eventually(lambda: (view.get("initech", "add") or failing).success_probability > 0.9)
    await view.stop()


async def test_what_was_measured_long_ago_counts_less(bus: Bus) -> None:
    now = 0.0
    await bus.ensure_stream(PERFORMANCE_STREAM)
    await publish(bus, "acme", Tally(count=90))
    view = PerformanceView(bus, clock=lambda: now)
    await view.start()
    await view.caught_up(10)
    seen = []
    for later in (0.0, HALF_LIFE, 10 * HALF_LIFE):
        now = later
        found = view.get("acme", "add")
        assert found is not None
        seen.append(found.success_probability)
    assert seen == sorted(seen)
    assert seen[0] < 0.1 < 0.7 < seen[-1]
    await view.stop()


async def test_a_performance_under_another_tools_subject_is_refused(bus: Bus) -> None:
    await bus.ensure_stream(PERFORMANCE_STREAM)
    with capture_logs() as logs:
        await publish(bus, "acme", good(9, 1), as_node="globex")
        view = PerformanceView(bus)
        await view.start()
        await view.caught_up(10)
        await view.stop()
    assert view.get("acme", "add") is view.get("globex", "add") is None
    assert "message_refused" in [log["event"] for log in logs]


async def test_a_mesh_without_metrics_knows_nothing_and_says_so_in_time(bus: Bus) -> None:
    view = PerformanceView(bus)
    await view.caught_up(0)
    await view.start()
    with pytest.raises(DeadlineExceeded):
        await view.caught_up(0.01)
    assert view.get("acme", "add") is None
    await asyncio.wait_for(view.stop(), 10)
