"""The benchmarks' arithmetic and their clients; how fast anything is nobody asserts."""

import asyncio
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clients import FRAME, HttpClient, TcpEcho, frames
from benchmarks.group import CALLER, Group, StartFailed, used_between
from benchmarks.load import Load, Sample, percentile, run_load
from benchmarks.mesh import bench_environment, free_port, listens, server_command, start_nats
from benchmarks.rounds import Cell, added_latency, median, ratio, turn


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_a_value_that_the_share_does_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered)


def test_percentiles_take_the_nearest_rank_and_of_none_there_is_none() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile(ordered, 1)) == (50, 99, 100)
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize("in_flight", [1, 7])
async def test_a_load_makes_just_its_calls_and_never_more_at_a_time(in_flight: int) -> None:
    running, most = 0, 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(later.set_result, None)
        await later
        running -= 1

    sample = await run_load(call, Load(in_flight, seconds=30, calls=50))
    assert (len(sample.latencies), most, sample.errors) == (50, in_flight, [])
    assert sample.rate == 50 / sample.elapsed


async def test_failed_calls_are_counted_apart_and_end_a_load_that_only_fails() -> None:
    async def call() -> None:
        raise ConnectionError("gone")

    sample = await run_load(call, Load(4, seconds=30))
    assert not sample.latencies
    assert 20 <= len(sample.errors) <= 24
    assert sample.errors[0] == "ConnectionError: gone"


@given(st.lists(st.integers(), unique=True), st.integers(0, 100))
def test_each_round_measures_everything_once_and_begins_with_another(items: list[int], number: int) -> None:
    assert sorted(turn(items, number)) == sorted(items)
    if items:
        assert turn(items, number)[0] == items[number % len(items)]


def test_cells_take_medians_over_the_rounds_and_ratios_within_them() -> None:
    ours, theirs = Cell(), Cell()
    for speed in (1.0, 2.0, 10.0):
        ours.add(Sample([0.3 / speed] * 20, elapsed=1 / speed), {"node": 0.2, "idle": 0.0})
        theirs.add(Sample([0.1 / speed] * 10, elapsed=1 / speed), {"node": 0.1})
    assert (ours.rate, ours.p50, ours.calls) == (40, 0.15, 60)
    assert ratio(ours, theirs) == 2
    assert added_latency(ours, theirs) == pytest.approx(0.1)
    assert ours.cpu_by_process == {"node": pytest.approx(10)}
    assert ours.cpu_total == pytest.approx(10)
    assert math.isnan(median([math.nan]))


@given(st.lists(st.binary(max_size=50)), st.integers(0, 500))
def test_framed_messages_come_out_whole_wherever_the_stream_is_cut(messages: list[bytes], cut: int) -> None:
    stream = b"".join(FRAME.pack(len(message)) + message for message in messages)
    buffer = bytearray(stream[:cut])
    found = frames(buffer)
    buffer += stream[cut:]
    assert [*found, *frames(buffer)] == messages
    assert not buffer


async def test_the_http_client_reads_sized_and_chunked_answers_on_a_kept_connection() -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    ]
    connections = 0
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for answer in answers:
            await reader.readuntil(b"ping")
            writer.write(answer[:20])
            await writer.drain()
            writer.write(answer[20:])
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = HttpClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
        first = await client.send(client.request(b"ping"))
        second = await client.send(client.request(b"ping"))
        client.close()
        await ended.wait()
    assert (first.status, first.body) == (200, b"hello")
    assert (second.status, second.body, second.header("x-a")) == (404, b"abcde", "b")
    assert connections == 1


async def test_a_group_measures_its_processes_and_leaves_none_behind(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        url = await start_nats(group)
        port = free_port()
        group.start("tcp-echo", server_command("tcp", "", str(port)), bench_environment())
        await group.until("tcp-echo", lambda: listens(port))
        echo = await TcpEcho.connect(port)
        assert await echo.call(b"abc") == b"abc"
        echo.close()
        used = group.cpu_seconds()
        assert {"nats-server", "tcp-echo", CALLER} <= used.keys()
        assert used_between(used, {"new": 1.5, CALLER: used[CALLER]}) == {"new": 1.5, CALLER: 0.0}
    assert not listens(port)
    assert not listens(int(url.rpartition(":")[2]))


async def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    with Group(tmp_path) as group:
        group.start("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"])
        with pytest.raises(StartFailed, match="broken ended with code 1: no such thing"):
            await group.until("broken", lambda: False)
