import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mcp_federation.errors import FederationError
from mcp_federation.mesh.supervisor import ChildProcess, Command, ProcessGroup
from tests.support.waiting import eventually

READY = "print('up', flush=True)\n"
FOREVER = READY + "import signal\nsignal.pause()\n"
STUBBORN = (
    "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY + "while True: signal.pause()\n"
)


def python(name: str, code: str, **env: str) -> Command:
    return Command(name, (sys.executable, "-P", "-c", code), {"PATH": os.environ["PATH"], **env})


class Watch:
    """Waits for what a group does."""

    def __init__(self) -> None:
        self.changes = 0
        self.changed = asyncio.Event()

    def __call__(self) -> None:
        self.changes += 1
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def group(tmp_path: Path, watch: Watch) -> AsyncIterator[ProcessGroup]:
    async with ProcessGroup(tmp_path / "logs", watch) as group:
        yield group


async def logged(path: Path, text: str, times: int = 1) -> None:
    """Children say in their log when they are up."""
    await eventually(lambda: path.exists() and path.read_text().count(text) >= times, timeout=20)


async def test_a_killed_child_is_back_at_once_under_another_pid(group: ProcessGroup, watch: Watch) -> None:
    group.start(python("sleeper", FOREVER))
    await watch.until(lambda: "sleeper" in group.pids)
    group.settle()
    first = group.pids["sleeper"]
    loop = asyncio.get_running_loop()
    killed = loop.time()
    os.kill(first, signal.SIGKILL)
    await watch.until(lambda: group.pids.get("sleeper", first) != first)
    assert loop.time() - killed < 2


async def test_a_child_that_keeps_dying_is_started_again_ever_more_slowly_and_its_reason_logged(
    group: ProcessGroup, watch: Watch
) -> None:
    group.settle()
    with capture_logs() as logs:
        group.start(python("restless", "raise SystemExit('no luck')"))
        # A start and an end are a change each: the third start is the fifth change.
        await watch.until(lambda: watch.changes >= 5)
    assert [line["in_seconds"] for line in logs] == [0.1, 0.3]
    assert {line["reason"] for line in logs} == {"no luck"}


async def test_a_child_that_cannot_start_fails_the_group_with_its_last_error(group: ProcessGroup) -> None:
    group.start(
        python("steady", FOREVER), python("broken", "import sys; sys.exit('mcp-federation: no such port')")
    )
    error = await asyncio.wait_for(group.failure(), 20)
    assert isinstance(error, FederationError)
    assert error.message == "broken does not start: no such port"


async def test_a_command_that_is_not_there_fails_the_group(group: ProcessGroup) -> None:
    group.start(Command("ghost", ("/nonexistent/ghost",), {}))
    error = await asyncio.wait_for(group.failure(), 20)
    assert error.message.startswith("ghost does not start: it cannot be started")


async def test_a_child_killed_while_the_mesh_starts_is_started_again_and_no_failure(
    group: ProcessGroup, watch: Watch
) -> None:
    group.start(python("sleeper", FOREVER))
    await watch.until(lambda: "sleeper" in group.pids)
    first = group.pids["sleeper"]
    os.kill(first, signal.SIGKILL)
    await watch.until(lambda: group.pids.get("sleeper", first) != first)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(group.failure(), 0)


async def test_stages_stop_in_reverse_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import os, signal\n"
        "def leave(*_):\n"
        "    with open(os.environ['ORDER'], 'a') as file: file.write(os.environ['NAME'] + '\\n')\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, leave)\n" + FOREVER
    )
    async with ProcessGroup(tmp_path) as group:
        for name in ("nats", "node", "edge"):
            group.start(python(name, code, ORDER=str(order), NAME=name))
        for name in ("nats", "node", "edge"):
            await logged(tmp_path / f"{name}.log", "up")
    assert order.read_text().split() == ["edge", "node", "nats"]


async def test_a_child_that_ignores_sigterm_is_killed_with_all_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\n" + STUBBORN
    )
    started = asyncio.Event()
    child = ChildProcess(python("stubborn", code), tmp_path / "log", on_start=started.set)
    await asyncio.wait_for(started.wait(), 20)
    await logged(tmp_path / "log", "up")
    pids = [child.pid or 0, int((tmp_path / "log").read_text().split()[0])]
    await child.stop(patience=0.1)
    assert child.pid is None
    # An orphan is reaped by init, not by us.
    await eventually(lambda: not any(map(is_running, pids)))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_child_is_not_started_again_once_it_was_stopped(tmp_path: Path) -> None:
    started = asyncio.Event()
    child = ChildProcess(python("sleeper", FOREVER), tmp_path / "log", on_start=started.set)
    await asyncio.wait_for(started.wait(), 20)
    await child.stop()
    await child.stop()
    assert child.pid is None


async def test_the_terminal_s_interrupt_does_not_reach_children(group: ProcessGroup, watch: Watch) -> None:
    group.start(python("sleeper", FOREVER))
    await watch.until(lambda: "sleeper" in group.pids)
    assert os.getpgid(group.pids["sleeper"]) != os.getpgid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_a_parent_that_is_killed_outright_leaves_no_child(tmp_path: Path) -> None:
    parent = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from mcp_federation.mesh.supervisor import Command, ProcessGroup\n"
        "async def main():\n"
        "    changed = asyncio.Event()\n"
        f"    async with ProcessGroup(Path({str(tmp_path)!r}), changed.set) as group:\n"
        f"        group.start(Command('child', (sys.executable, '-c', {FOREVER!r}), {{}}))\n"
        "        await changed.wait()\n"
        "        print(group.pids['child'], flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pid = int(await asyncio.wait_for(process.stdout.readline(), 20))
    await logged(tmp_path / "child.log", "up")
    assert is_running(pid)
    process.kill()
    await process.wait()
    await eventually(lambda: not is_running(pid))
