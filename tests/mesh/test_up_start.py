"""Starts of `mcp-federation up` that come to nothing: broken off, or with something in the way."""

import asyncio
import os
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mcp_federation.errors import Conflict
from mcp_federation.mesh.state import StateDir
from mcp_federation.mesh.up import up
from mcp_federation.settings import load_settings
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    script = Path(sysconfig.get_path("scripts"), "mcp-federation")
    with subprocess.Popen(
        [script, "up", "--port", "0", "--state-dir", str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        text=True,
    ) as process:
        yield process
        process.kill()


def commands_on(folder: Path) -> list[str]:
    """The command lines of running processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_start_that_is_broken_off_ends_well_and_leaves_nothing(
    tmp_path: Path, command: subprocess.Popen[str], number: signal.Signals
) -> None:
    await eventually((tmp_path / "state" / "logs" / "governance.log").exists, timeout=30)
    command.send_signal(number)
    out, error = command.communicate(timeout=60)
    assert (command.returncode, error) == (0, "")
    assert "ready" not in out
    assert commands_on(tmp_path) == []


async def test_a_second_start_in_the_same_place_names_the_first_and_not_its_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with StateDir(tmp_path).locked():
            settings = load_settings(state_dir=tmp_path, port=taken.getsockname()[1])
            with pytest.raises(Conflict, match="already runs"):
                await up(settings, asyncio.Event(), demo=False, console=Console())


def test_a_process_that_cannot_start_ends_it_all_with_its_reason_in_one_line(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.governance.mkdir(parents=True)
    (state.governance / "governance.key").write_text("not for all to read")
    (state.governance / "governance.key").chmod(0o644)
    script = Path(sysconfig.get_path("scripts"), "mcp-federation")
    done = subprocess.run(
        [script, "up", "--port", "0", "--state-dir", str(state.root)],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mcp-federation: governance does not start: "
        "the private key governance.key may be read by others: give it mode 0600\n"
    )
    assert commands_on(tmp_path) == []


def test_a_server_that_cannot_start_is_shown_and_the_others_serve(tmp_path: Path) -> None:
    config = tmp_path / "servers.json"
    config.write_text('{"mcpServers": {"ghost": {"command": "/no/such/server"}}}')
    script = Path(sysconfig.get_path("scripts"), "mcp-federation")
    flags = ["up", "--port", "0", "--state-dir", str(tmp_path / "state"), "--config", str(config)]
    with subprocess.Popen(
        [script, *flags], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        shown = []
        for line in process.stdout:
            shown.append(line)
            if "Ctrl-C" in line:
                break
        process.terminate()
        process.stdout.read()
        assert process.wait(60) == 0
    rows = [line.split() for line in shown]
    assert ["ghost", "-", "failed"] in rows
    assert ["file_operations_mcp", "file_operations_mcp", "ready"] in rows
    assert any(line.strip().startswith("ghost@local: ") for line in shown)
    assert commands_on(tmp_path) == []
