"""A child that speaks in lines: each comes out whole, however the pipe cuts it, but for one too long."""

import asyncio
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.node.servers import child as module
from mcp_federation.node.servers.child import Child
from tests.support.waiting import eventually


class Heard:
    """What a child said."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.too_long: list[tuple[bytes, bytes]] = []
        self.ended = asyncio.Event()

    def child(self, max_line: int = 2**20) -> Child:
        return Child(
            self.lines.append,
            lambda head, tail: self.too_long.append((head, tail)),
            self.ended.set,
            max_line,
        )


async def start(script: str, heard: Heard) -> Child:
    child = heard.child()
    await child.start((sys.executable, "-I", "-S", "-c", script), {}, None, None)
    return child


@given(st.lists(st.binary(max_size=6).filter(lambda line: b"\n" not in line), max_size=6), st.data())
@settings(max_examples=50, deadline=None)
def test_lines_come_out_as_they_went_in(lines: list[bytes], data: st.DataObject) -> None:
    heard = Heard()
    child = heard.child()
    stream = b"".join(line + b"\n" for line in lines)
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        child.pipe_data_received(1, stream[:cut])
        stream = stream[cut:]
    assert heard.lines == lines


def test_a_long_line_is_kept_once_while_it_is_read() -> None:
    size = 4 * 2**20
    kept: list[int] = []
    child = Child(lambda line: kept.append(tracemalloc.get_traced_memory()[0]), print, print, 2 * size)
    tracemalloc.start()
    try:
        for _ in range(4):
            child.pipe_data_received(1, b"x" * (size // 4))
        child.pipe_data_received(1, b"\n")
    finally:
        tracemalloc.stop()
    assert size <= kept[0] < 1.5 * size


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_line_over_the_bound_is_lost_alone(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "KEPT_OF_TOO_LONG", 4)
    heard = Heard()
    child = heard.child(max_line=20)
    stream = b"first\nHEAD" + b"x" * 50 + b"TAIL\nlast\n"
    for start in range(0, len(stream), chunk):
        child.pipe_data_received(1, stream[start : start + chunk])
    kept = [line for line in heard.lines if line in (b"first", b"last")]
    assert kept == [b"first", b"last"]
    if chunk < 20:
        assert heard.too_long == [(b"HEAD", b"TAIL")]


async def test_what_is_written_reaches_the_child_and_its_answer_comes_back() -> None:
    heard = Heard()
    child = await start("import sys\nfor line in sys.stdin: print('got', line.strip(), flush=True)", heard)
    child.write(b"one\n")
    await eventually(lambda: heard.lines == [b"got one"])
    await child.stop()
    assert heard.ended.is_set()


async def test_a_child_that_does_not_read_makes_its_writers_wait() -> None:
    heard = Heard()
    child = await start(
        "import sys; sys.stdin.readline(); print(len(sys.stdin.readline()), flush=True)", heard
    )
    child.write(b"\n" + b"x" * 1_000_000)
    assert not child.is_writable
    child.write(b"\n")
    await asyncio.wait_for(child.writable(), 10)
    await eventually(lambda: heard.lines == [b"1000001"])
    await child.stop()


@pytest.mark.parametrize(
    "script",
    [
        "import signal, threading; threading.Event().wait()",
        "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)\n"
        "threading.Event().wait()",
        "import sys\nwhile True: sys.stdout.write('x' * 1000 + chr(10))",
    ],
)
async def test_a_child_that_goes_on_is_ended(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(module, "EXIT_TIMEOUT", 0.1)
    monkeypatch.setattr(module, "KILL_TIMEOUT", 0.2)
    child = await start(script, Heard())
    await child.stop()
    assert child._exited.is_set()
