import io
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mcp_federation.contract.messages import RefusedTool, ServerState
from mcp_federation.mesh.readiness import RunningServer
from mcp_federation.mesh.screen import ReadyMesh, examples, program, show_ready
from mcp_federation.mesh.terminal import PIPED_WIDTH, make_console, safe_text
from mcp_federation.mesh.topology import Example

EXAMPLE = Example("time.get_current_time@globex", {"timezone": "Europe/Berlin"})
LONG = "a_tool_with_a_name_that_is_longer_than_any_terminal_" * 2


def ready(tmp_path: Path, *, closed: bool = False) -> ReadyMesh:
    return ReadyMesh(
        edge_url="http://127.0.0.1:8000",
        nats_address="nats://127.0.0.1:4222",
        state_dir=tmp_path,
        closed=closed,
        pids={"nats": 11, "edge": 12, "node-acme": 13},
        servers=(
            RunningServer("acme", ServerState(name="time", state="ready", tools=1), ("time.now",)),
            RunningServer("acme", ServerState(name="bad", state="failed", reason="it \x1b[2Jended"), ()),
            RunningServer("globex", ServerState(name="git", state="ready", tools=1), (LONG,)),
        ),
        example=EXAMPLE,
        seconds=3.21,
    )


def shown(mesh: ReadyMesh, width: int = 100, *, terminal: bool = False) -> str:
    out = io.StringIO()
    show_ready(
        Console(file=out, width=width, force_terminal=terminal, markup=False, highlight=False, _environ={}),
        mesh,
    )
    return out.getvalue()


def test_the_table_says_what_runs_where(tmp_path: Path) -> None:
    text = shown(ready(tmp_path))
    assert "ready after 3.2 s" in text
    assert "http://127.0.0.1:8000" in text
    assert "nats://127.0.0.1:4222" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["acme", "time", "now", "ready", "13"] in rows
    assert ["bad", "-", "failed"] in rows


def test_of_many_tools_the_first_are_named(tmp_path: Path) -> None:
    def row(count: int) -> str:
        names = tuple(f"git.t{number}" for number in range(count))
        server = RunningServer("acme", ServerState(name="git", state="ready", tools=count), names)
        text = shown(replace(ready(tmp_path), servers=(server,)))
        return next(line for line in text.splitlines() if "acme" in line)

    assert " t0, t1, t2, t3 " in row(4)
    assert " t0, t1, t2, 9\N{NO-BREAK SPACE}more " in row(12)


def test_a_long_state_directory_takes_no_room_of_the_others(tmp_path: Path) -> None:
    far = tmp_path / ("a folder with a long name" * 4)
    lines = shown(replace(ready(tmp_path), state_dir=far), 80).splitlines()
    assert f"  state       {far}" in lines
    assert any(line.rstrip().endswith("pid 12, open: --token closes it") for line in lines)


def test_the_state_directory_is_shown_as_one_would_write_it_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "  state       .mcp-federation\n" in shown(
        replace(ready(tmp_path), state_dir=tmp_path / ".mcp-federation")
    )


def test_tools_that_are_not_published_are_told_with_what_to_do(tmp_path: Path) -> None:
    waiting = RefusedTool(name="time.set", decision="quarantined", why="it does more; and more")
    rejected = RefusedTool(name="time.gone", decision="rejected", why="it \x1b[2Jhides")
    server = RunningServer("acme", ServerState(name="time", state="ready"), (), (waiting, rejected))
    text = shown(replace(ready(tmp_path), servers=(server,)))
    assert "time.set@acme waits for a person: it does more\n" in text
    assert "time.gone@acme is not published: it \ufffd[2Jhides" in text
    assert "governance review" in text
    many = replace(server, refused=(rejected,) * 30)
    text = shown(replace(ready(tmp_path), servers=(many,)))
    assert "… and 20 more" in text
    assert "governance review" not in text


def test_a_long_reason_is_one_line_in_a_pipe_and_folded_between_words_on_a_terminal(tmp_path: Path) -> None:
    why = "it would not start " * 20
    server = RunningServer("acme", ServerState(name="bad", state="failed", reason=why.strip()), ())
    mesh = replace(ready(tmp_path), servers=(server,))
    assert f"  bad@acme: {why.strip()}\n" in shown(mesh, 80)
    assert all(len(line) < 120 for line in shown(mesh, 80, terminal=True).splitlines() if "would" in line)


def test_why_a_server_failed_is_shown_without_what_drives_a_terminal(tmp_path: Path) -> None:
    text = shown(ready(tmp_path))
    assert "bad@acme: it \ufffd[2Jended" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_commands_to_paste_are_never_folded(tmp_path: Path, width: int) -> None:
    lines = [line.strip() for line in shown(ready(tmp_path), width, terminal=True).splitlines()]
    plain = [line.split("m", 1)[-1].removesuffix("\x1b[0m").strip() for line in lines]
    for command in examples("http://127.0.0.1:8000", EXAMPLE, tmp_path, closed=False):
        assert [line.strip() for line in command] == [
            line for line in plain if line in [part.strip() for part in command]
        ]


def test_a_closed_mesh_sends_the_token_by_the_name_of_its_variable() -> None:
    discover, execute, _ = examples("http://h", EXAMPLE, Path("/s"), closed=True)
    for command in (discover, execute):
        assert '-H "Authorization: Bearer $MCP_FEDERATION_TOKEN"' in "\n".join(command)


def test_the_commands_are_what_a_shell_reads_them_as() -> None:
    example = Example("o'clock@globex", {"zone": "it's here"})
    _, execute, call = examples("http://h", example, Path("/state dir"), closed=False)
    words = subprocess.run(
        ["bash", "-c", "curl() { printf '%s\\0' \"$@\"; }\n" + "\n".join(execute)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    body = json.loads(words[words.index("-d") + 1])
    assert body == {"mcp_name": "o'clock@globex", "args": [], "kwargs": {"zone": "it's here"}}
    assert shlex.split(call[0])[1:] == [
        "call",
        "o'clock@globex",
        "zone=it's here",
        "--state-dir",
        "/state dir",
    ]


def test_the_default_state_directory_needs_no_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    *_, call = examples("http://h", EXAMPLE, tmp_path / ".mcp-federation", closed=False)
    assert "--state-dir" not in call[0]


def test_the_program_is_named_as_it_can_be_started_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "venv" / "bin"
    scripts.mkdir(parents=True)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(scripts))
    monkeypatch.setenv("PATH", str(scripts))
    monkeypatch.chdir(tmp_path)
    assert program()[1:] == ["-m", "mcp_federation.cli"]
    script = scripts / "mcp-federation"
    script.touch(mode=0o755)
    assert program() == ["mcp-federation"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == ["venv/bin/mcp-federation"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert program() == [str(script)]


def test_a_pipe_gets_plain_and_wide_lines() -> None:
    out = io.StringIO()
    console = make_console(out)
    console.print("x" * (PIPED_WIDTH - 1), style="bold red")
    assert out.getvalue() == "x" * (PIPED_WIDTH - 1) + "\n"


def test_text_of_others_keeps_its_lines_and_loses_its_controls() -> None:
    assert (
        safe_text("a\tb\nc\x1b]0;title\x07\r\u202ed\x9b") == "a\tb\nc\ufffd]0;title\ufffd\ufffd\ufffdd\ufffd"
    )
