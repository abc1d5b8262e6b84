import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_federation.errors import FederationError
from mcp_federation.mesh.demo import prepare_demo, require_demo_servers, run_to_end
from mcp_federation.mesh.state import StateDir
from mcp_federation.node.servers.config import StdioSpec, load_config


def git(repository: Path, *args: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repository), *args], capture_output=True, text=True, check=True
    ).stdout


async def test_the_demo_has_a_clock_and_a_repository_with_a_history(tmp_path: Path) -> None:
    globex, initech = await prepare_demo(StateDir(tmp_path))
    clock, history = load_config(globex)["time"], load_config(initech)["git"]
    assert isinstance(clock, StdioSpec)
    assert isinstance(history, StdioSpec)
    assert "mcp_server_time" in clock.args
    repository = Path(history.args[-1])
    assert len(git(repository, "log", "--oneline").splitlines()) == 3
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "branch", "--show-current").strip() == "main"


async def test_a_repository_that_is_there_is_kept(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    await prepare_demo(state)
    note = state.demo / "repository" / "note"
    note.write_text("mine")
    await prepare_demo(state)
    assert note.read_text() == "mine"


async def test_a_repository_that_was_only_begun_is_made_anew(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    (state.demo / ".repository" / "rest").mkdir(parents=True)
    await prepare_demo(state)
    assert not (state.demo / "repository" / "rest").exists()


async def test_the_users_git_configuration_and_repository_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[commit]\n\tgpgSign = true\n[init]\n\tdefaultBranch = other\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    state = StateDir(tmp_path / "state")
    await prepare_demo(state)
    monkeypatch.delenv("GIT_DIR")
    assert "Initech" in git(state.demo / "repository", "log", "--format=%an %cn", "-1")


def test_missing_demo_servers_are_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_demo_servers()
    monkeypatch.setattr("mcp_federation.mesh.demo.find_spec", lambda _: None)
    with pytest.raises(FederationError, match=r"pip install 'mcp-federation\[demo\]'"):
        require_demo_servers()


def test_a_missing_git_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FederationError, match="git"):
        require_demo_servers()


async def test_a_step_that_fails_says_its_last_words() -> None:
    with pytest.raises(FederationError, match="failed: no luck"):
        await run_to_end(sys.executable, "-c", "raise SystemExit('at first\\nno luck')", env=os.environ)
    with pytest.raises(FederationError, match="failed: exit code 3"):
        await run_to_end(sys.executable, "-c", "raise SystemExit(3)", env=os.environ)


async def test_a_step_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_federation.mesh.demo.STEP_TIMEOUT", 0.05)
    with pytest.raises(FederationError, match="did not end"):
        await run_to_end(sys.executable, "-c", "import signal; signal.pause()", env=os.environ)
