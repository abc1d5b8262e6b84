"""`mcp-federation up --demo` as a user has it: the real command, real servers, real signals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import pytest

from mcp_federation.listening import listening_port
from mcp_federation.mesh.state import RunningMesh, StateDir
from tests.support.nats_server import temporary_folder
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(180)]

TOKEN = "s3cret/with@odd:signs"
SCRIPTS = sysconfig.get_path("scripts")
CLOCK = "time.get_current_time@globex"
CLOCK_ARGUMENTS = {"timezone": "Europe/Berlin"}
REGISTRATION = {
    "name": "custom_super_tool",
    "description": "Domain-specific analytics tool",
    "version": "0.1.0",
    "source_repo": "https://github.com/acme/custom_super_tool",
}


class Up:
    """A running `mcp-federation up --demo`, with what it printed until it was ready."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MCP_FEDERATION")},
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "MCP_FEDERATION_TOKEN": TOKEN,
        }
        self.state = StateDir(folder / "state")
        self.screen = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def mesh(self) -> RunningMesh:
        return self.state.read_mesh()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        flags = ["up", "--demo", "--state-dir", str(self.state.root), "--port", str(self.port)]
        with (self.folder / "stderr").open("a") as stderr:
            self._process = subprocess.Popen(
                ["mcp-federation", *flags],
                env=self.environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        self.screen = "".join(lines)
        assert "MCP Federation is ready" in self.screen, (self.folder / "stderr").read_text()

    def stop(self) -> int:
        """The exit code after Ctrl-C."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(60)
        finally:
            self.kill()
        return self._process.returncode

    def kill(self) -> None:
        assert self._process is not None
        with self._process:
            self._process.kill()

    def cli(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["mcp-federation", *argv, "--state-dir", str(self.state.root)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def request(
        self, method: str, path: str, body: Any = None, *, token: str = TOKEN, timeout: float = 30
    ) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def execute(self, name: str, arguments: dict[str, Any], timeout: float = 30) -> tuple[int, Any]:
        body = {"mcp_name": name, "args": [], "kwargs": arguments}
        return self.request("POST", "/execute", body, timeout=timeout)

    def the_clock_answers(self) -> bool:
        """Whether a call works now; one that was under way when something died may wait in vain."""
        try:
            return self.execute(CLOCK, CLOCK_ARGUMENTS, timeout=1)[0] == 200
        except TimeoutError:
            return False

    def discovered(self) -> set[str]:
        return {tool["name"] for tool in self.request("GET", "/discover")[1]}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    folder = temporary_folder()
    with Up(folder, listening_port("127.0.0.1", 0)) as up:
        yield up
    shutil.rmtree(folder)


def descendants(root: int) -> set[int]:
    """A process and all that it and its children started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def running(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)}


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_table_shows_every_organisation_with_its_servers_and_processes(up: Up) -> None:
    rows = [line.split() for line in up.screen.splitlines()]
    processes = up.mesh.processes
    for node, server in (("acme", "database_mcp"), ("globex", "time"), ("initech", "git")):
        (row,) = [row for row in rows if row[:2] == [node, server]]
        assert row[-2:] == ["ready", str(processes[f"node-{node}"])]
    assert "git_add" in up.screen
    assert f"http://127.0.0.1:{up.port}" in up.screen
    assert TOKEN not in up.screen
    assert set(processes) == {
        "nats",
        "governance",
        "metrics",
        "node-acme",
        "node-globex",
        "node-initech",
        "edge",
    }


def test_the_commands_it_shows_can_be_pasted(up: Up) -> None:
    shown = up.screen.partition("Try")[2].partition("Ctrl-C")[0]
    discover, execute, call = [part for part in re.split(r"\n\s*\n", shown)[1:] if part.strip()]
    answers = [
        subprocess.run(
            ["bash", "-c", command],
            env=up.environment,
            cwd=up.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        for command in (discover, execute, call)
    ]
    assert [answer.returncode for answer in answers] == [0, 0, 0], answers
    assert CLOCK.partition("@")[0] in answers[0].stdout
    assert json.loads(answers[1].stdout)["result"]["timezone"] == "Europe/Berlin"
    assert json.loads(answers[2].stdout)["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("file_operations_mcp", {"operation": "inspect", "source_path": "example.txt"}, "example.txt"),
        ("git.git_log@initech", {"repo_path": "repository", "max_count": 5}, "Count each report once"),
    ],
)
def test_each_organisation_answers(up: Up, name: str, arguments: dict[str, Any], answer: str) -> None:
    if "repo_path" in arguments:
        arguments = arguments | {"repo_path": str(up.state.demo / "repository")}
    status, body = up.execute(name, arguments)
    assert status == 200
    assert answer in json.dumps(body)


def test_without_the_token_the_edge_answers_401(up: Up) -> None:
    assert up.request("GET", "/discover", token="wrong")[0] == 401


def test_the_command_line_finds_the_mesh_and_prints_for_programs(up: Up) -> None:
    found = up.cli("discover", "current time")
    assert found.stdout.startswith(f"{CLOCK}\t")
    tools = json.loads(up.cli("discover", "--json").stdout)
    assert {tool["state"] for tool in tools if tool["name"] == CLOCK} == {"ready"}
    result = up.cli("call", CLOCK, "timezone=UTC", "--json")
    assert (result.returncode, json.loads(result.stdout)["timezone"]) == (0, "UTC")


def test_the_command_line_recommends_tools_for_a_sentence(up: Up) -> None:
    found = up.cli("recommend", "convert nine in the morning in Oslo to the time zone of Lima").stdout
    first, fits, succeeds = found.splitlines()[0].split("\t")
    assert first == "time.convert_time@globex"
    assert float(fits) == 1
    assert 0 < float(succeeds) < 1
    tools = json.loads(up.cli("recommend", "which branches are there", "--limit", "1", "--json").stdout)
    assert [tool["name"] for tool in tools] == ["git.git_branch@initech"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("recommend", " "), "the query is empty"),
        (("call", "no_such_tool"), "no tool is called 'no_such_tool'"),
        (("call", CLOCK, "timezone=Mars/Olympus"), "Mars/Olympus"),
    ],
)
def test_what_goes_wrong_is_one_line_and_code_1(up: Up, argv: tuple[str, ...], said: str) -> None:
    result = up.cli(*argv)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("mcp-federation: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_second_mesh_on_the_same_state_is_refused_in_one_line(up: Up) -> None:
    result = up.cli("up", "--port", "0")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"mcp-federation: a mesh already runs on {up.state.root}, at {up.mesh.edge_url}\n"


async def test_a_killed_node_is_a_503_at_once_and_is_back_by_itself(up: Up) -> None:
    killed = up.mesh.processes["node-globex"]
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: not running({killed}))
    began = time.monotonic()
    status, problem = up.execute(CLOCK, CLOCK_ARGUMENTS)
    assert time.monotonic() - began < 1
    # Lost rather than unavailable where nats-server has not seen the end of its connection yet.
    assert (status, problem["code"]) in {(503, "node_unavailable"), (503, "node_lost")}
    assert up.execute("file_operations_mcp", {"operation": "list", "source_path": "."})[0] == 200
    await eventually(lambda: up.the_clock_answers(), timeout=60)
    assert up.mesh.processes["node-globex"] != killed


async def test_a_killed_nats_server_is_back_within_5_seconds_and_nothing_is_lost(up: Up) -> None:
    status, registered = up.request("POST", "/register", REGISTRATION)
    assert status == 201
    assert (registered["status"], registered["name"]) == ("registered", REGISTRATION["name"])
    before = up.discovered()
    assert REGISTRATION["name"] in before
    began = time.monotonic()
    killed = up.mesh.processes["nats"]
    os.kill(killed, signal.SIGKILL)
    # Not by a call that fails: the client may try a harmless one again until it is answered.
    await eventually(lambda: up.mesh.processes.get("nats", killed) != killed, timeout=10)
    await eventually(lambda: up.the_clock_answers(), timeout=30)
    assert time.monotonic() - began < 5
    assert up.discovered() == before
    assert REGISTRATION["name"] in up.cli("discover").stdout


async def test_ctrl_c_leaves_nothing_and_the_next_start_has_everything(up: Up) -> None:
    if REGISTRATION["name"] not in up.discovered():
        assert up.request("POST", "/register", REGISTRATION)[0] == 201
    before = up.discovered()
    nats_url = up.mesh.nats_url
    mesh = descendants(up.pid)
    assert len(mesh) >= 10  # up, its seven children, and the two servers of globex and initech
    assert up.stop() == 0
    assert running(mesh) == set()
    assert up.cli("discover").stderr.startswith("mcp-federation: no mesh runs on")
    up.start()
    await eventually(lambda: up.discovered() == before)
    assert up.the_clock_answers()
    assert up.mesh.nats_url == nats_url


async def test_a_mesh_that_is_killed_outright_leaves_nothing_and_can_be_started_again(up: Up) -> None:
    mesh = descendants(up.pid)
    up.kill()
    await eventually(lambda: not running(mesh), timeout=30)
    up.start()
    assert up.the_clock_answers()
