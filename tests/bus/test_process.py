"""How a process begins and ends: it waits for its server, drains on a signal, and says why it failed."""

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mcp_federation import process
from mcp_federation.bus.nats import NatsBus
from mcp_federation.errors import BusUnavailable, InvalidRequest
from mcp_federation.process import connected, run_process
from mcp_federation.settings import load_settings
from tests.support.nats_server import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.bus


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    """What a process keeps to its end, the tests after this one need not."""
    yield
    gc.unfreeze()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_it_to_stop(number: signal.Signals) -> None:
    drained = False

    async def main(stop: asyncio.Event) -> None:
        nonlocal drained
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
        drained = True

    assert run_process(main) == 0
    assert drained


def test_collecting_garbage_does_not_go_through_all_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SETTLED", 0.0)
    frozen = []

    async def main(_: asyncio.Event) -> None:
        frozen.append(gc.get_freeze_count())
        kept: list[list[int]] = [[] for _ in range(1000)]
        await eventually(lambda: gc.get_freeze_count() > frozen[0] + 900)
        frozen.append(len(kept))

    assert run_process(main) == 0
    assert frozen[0] > 10_000


def test_an_error_ends_it_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(_: asyncio.Event) -> None:
        raise InvalidRequest("the file says nothing")

    assert run_process(main) == 1
    assert capsys.readouterr().err == "mcp-federation: the file says nothing\n"


async def test_it_waits_for_a_server_that_starts_after_it(own_nats_server: NatsServer) -> None:
    own_nats_server.stop()
    settings = load_settings(nats_url=own_nats_server.url)
    asyncio.get_running_loop().call_later(0.2, own_nats_server.start)
    async with connected(settings, "a test", asyncio.Event()) as bus:
        assert bus.connected
    assert not bus.connected


async def test_it_waits_no_longer_than_it_was_told(
    own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_nats_server.stop()
    monkeypatch.setattr(process, "BUS_PATIENCE", 0.1)
    with pytest.raises(BusUnavailable):
        async with connected(load_settings(nats_url=f"{own_nats_server.url}x"), "a test", asyncio.Event()):
            pytest.fail("there is nothing to connect to")


async def test_a_refusal_is_told_once_however_often_it_is_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "BUS_RETRY_PAUSE", 0)
    stop = asyncio.Event()
    tries = 0

    async def refuse(*_: Any, **__: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            stop.set()
        raise BusUnavailable("the NATS server refuses our credentials")

    monkeypatch.setattr(NatsBus, "connect", refuse)
    with capture_logs() as logs, pytest.raises(BusUnavailable):
        async with connected(load_settings(), "a test", stop):
            pytest.fail("it is refused")
    assert (tries, [line["event"] for line in logs]) == (3, ["bus_awaited"])


async def test_it_shows_that_it_lives_while_the_bus_is_there(
    own_nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LIVENESS_INTERVAL", 0.02)
    alive = tmp_path / "alive"
    settings = load_settings(nats_url=own_nats_server.url, liveness_file=alive)
    async with connected(settings, "a test", asyncio.Event()) as bus:
        await eventually(alive.exists)
        own_nats_server.kill()
        await eventually(lambda: not bus.connected)
        alive.unlink()
        own_nats_server.start()
        await eventually(lambda: bus.connected)
        await eventually(alive.exists)
