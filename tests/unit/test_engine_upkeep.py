"""An open engine keeps its sources up to date by itself: those that were down, those that go and come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from mcp_federation import errors
from mcp_federation.engine.federated import FederatedRAGMCPEngine
from mcp_federation.engine.sources import upkeep
from mcp_federation.engine.sources.rest import RestPartner
from mcp_federation.engine.sources.source import OnChange
from mcp_federation.engine.sources.upkeep import INTERVAL, RETRY, Upkeep, pause_after
from tests.support.http_peer import HttpPeer
from tests.support.waiting import eventually

CLOCK = {"name": "clock", "description": "Tell the time of day."}
OVEN = {"name": "oven", "description": "Bake bread."}


def partner(*entries: dict[str, str]) -> HttpPeer:
    return HttpPeer({"GET /discover": list(entries), "GET /metadata": []})


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[FederatedRAGMCPEngine]:
    made = await asyncio.to_thread(FederatedRAGMCPEngine, enable_llm_validation=False, nodes=[url])
    async with made:
        yield made


def runnable(made: FederatedRAGMCPEngine) -> set[str]:
    return {spec.name.partition("@")[0] for spec in made.pareto_registry.mcps if spec.runnable}


class Fickle(RestPartner):
    """A source that can be followed once it no longer fails."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.fails = True
        self.started = 0
        self.stopped = 0

    async def load(self) -> None:
        if self.fails:
            raise errors.NodeUnavailable("not there")

    async def start(self, on_change: OnChange) -> None:
        await self.load()
        self.started += 1

    async def stop(self) -> None:
        self.stopped += 1


async def test_a_source_that_is_down_at_the_start_is_followed_once_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "RETRY", 0.01)
    source = Fickle()
    kept = Upkeep(source, lambda: None)
    with pytest.raises(errors.NodeUnavailable):
        await kept.start()
    with capture_logs() as logs:
        source.fails = False
        await eventually(lambda: source.started)
        await eventually(lambda: logs)
    assert [log["event"] for log in logs] == ["source_available"]
    await kept.load()
    await kept.start()
    await kept.stop()
    assert (source.started, source.stopped) == (1, 1)


async def test_what_was_never_opened_follows_nothing() -> None:
    source = Fickle()
    source.fails = False
    kept = Upkeep(source, lambda: None)
    await kept.load()
    await kept.stop()
    assert source.started == 0


async def test_a_partner_is_read_now_and_then_and_unavailable_while_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "INTERVAL", 0.02)
    with partner(CLOCK) as peer:
        async with opened(peer.url) as made:
            assert runnable(made) == {"clock"}
            peer.routes["GET /discover"] = [CLOCK, OVEN]
            await eventually(lambda: runnable(made) == {"clock", "oven"})
            del peer.routes["GET /discover"]
            with capture_logs() as logs:
                await eventually(lambda: runnable(made) == set())
            assert [log["event"] for log in logs].count("source_unavailable") == 1
            peer.routes["GET /discover"] = [OVEN]
            await eventually(lambda: runnable(made) == {"oven"})


async def test_a_partner_that_a_call_found_dead_is_unavailable_soon_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "RETRY", 0.0)
    with partner(CLOCK) as peer:
        async with opened(peer.url) as made:
            await made.refresh()
            assert runnable(made) == {"clock"}
            await asyncio.to_thread(peer.stop)
            with pytest.raises(errors.NodeUnavailable):
                await made.execute("clock")
            await eventually(lambda: runnable(made) == set())
            best, *_ = await made.get_mcp_recommendations("tell the time of day", 1)
            assert "runs on" not in best["recommendation_reason"]


async def test_a_source_that_fails_in_its_own_way_is_tried_again_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "RETRY", 0.01)
    source, tries = Fickle(), 0

    async def load() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise KeyError("its own")

    monkeypatch.setattr(source, "load", load)
    kept = Upkeep(source, lambda: None)
    with pytest.raises(KeyError):
        await kept.start()
    await eventually(lambda: source.started)
    await kept.stop()


async def test_no_task_outlives_the_engine() -> None:
    before = asyncio.all_tasks()
    with partner(CLOCK) as peer:
        async with opened(peer.url):
            assert asyncio.all_tasks() > before
        assert asyncio.all_tasks() == before


async def test_no_task_is_left_of_an_engine_that_was_given_up_while_it_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, source, entered = asyncio.all_tasks(), Fickle(), asyncio.Event()

    async def hang(_: OnChange) -> None:
        entered.set()
        await asyncio.Event().wait()

    source.fails = False
    monkeypatch.setattr(source, "start", hang)
    made = await asyncio.to_thread(FederatedRAGMCPEngine, enable_llm_validation=False, sources=[source])
    opening = asyncio.ensure_future(made.__aenter__())
    await entered.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert asyncio.all_tasks() == before
    assert source.stopped == 1


def test_pauses_double_from_a_second_to_a_minute_and_are_drawn_by_chance() -> None:
    for failures, longest in ((1, RETRY), (2, 2 * RETRY), (4, 8 * RETRY), (50, INTERVAL), (0, INTERVAL)):
        drawn = [pause_after(failures) for _ in range(50)]
        assert longest / 2 <= min(drawn) < max(drawn) <= longest
