"""What the demo's organisations share: a clock, and a small git repository made for it."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from mcp_federation.errors import FederationError, InternalError
from mcp_federation.mesh.state import StateDir, write_private

STEP_TIMEOUT: Final = 30.0

_AUTHOR = "Initech <release@initech.example>"
_COMMITS: Final = (
    (
        "Begin the cover sheet",
        "2026-02-19T09:00:00Z",
        {"README.md": "# TPS reports\n\nOne cover sheet each.\n"},
    ),
    (
        "Count the reports",
        "2026-02-19T10:30:00Z",
        {"reports.py": "def count(reports):\n    return len(reports)\n"},
    ),
    (
        "Count each report once",
        "2026-02-20T16:45:00Z",
        {"reports.py": "def count(reports):\n    return len(set(reports))\n"},
    ),
)


def require_demo_servers() -> None:
    """Check that the demo's MCP servers and the git command are there.

    Raises:
        FederationError: one is not; the message says how to get it.
    """
    if any(find_spec(module) is None for module in ("mcp_server_time", "mcp_server_git")):
        raise FederationError("the demo's MCP servers are not there: pip install 'mcp-federation[demo]'")
    if shutil.which("git") is None:
        raise FederationError("the demo needs the git command: install git")


async def prepare_demo(state: StateDir) -> tuple[Path, Path]:
    """The mcpServers files of globex (a clock) and initech (a git repository), made where not there yet.

    Raises:
        FederationError: git cannot make the repository.
    """
    repository = state.demo / "repository"
    await _make_repository(repository)
    return (
        _write_config(
            state.demo / "globex.json", "time", "-m", "mcp_server_time", "--local-timezone", "Etc/UTC"
        ),
        _write_config(
            state.demo / "initech.json", "git", "-m", "mcp_server_git", "--repository", str(repository)
        ),
    )


def _write_config(path: Path, server: str, *args: str) -> Path:
    entry = {"command": sys.executable, "args": ["-P", *args]}
    write_private(path, json.dumps({"mcpServers": {server: entry}}, indent=2).encode())
    return path


async def _make_repository(repository: Path) -> None:
    draft = _draft_of(repository)
    if draft is None:
        return
    await _git(draft, "init", "--quiet", "--initial-branch=main")
    for subject, when, files in _COMMITS:
        _write(draft, files)
        await _git(draft, "add", "--all")
        await _git(draft, "commit", "--quiet", f"--message={subject}", when=when)
    draft.replace(repository)


def _draft_of(repository: Path) -> Path | None:
    """An empty folder to make the repository in; None where it is made."""
    if repository.exists():
        return None
    # Made aside and renamed: a start that was cut short leaves no half of it.
    draft = repository.with_name(".repository")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


async def _git(folder: Path, *args: str, when: str = "") -> None:
    name, _, address = _AUTHOR.rstrip(">").partition(" <")
    # Neither the user's configuration (signing, hooks, templates) nor a surrounding repository matters.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")} | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": address,
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": address,
        "GIT_COMMITTER_DATE": when,
    }
    await run_to_end("git", "-C", str(folder), *args, env=env)


async def run_to_end(*argv: str, env: Mapping[str, str]) -> None:
    """Run a short command.

    Raises:
        FederationError: it fails, or takes longer than `STEP_TIMEOUT` seconds.
    """
    pipe: dict[str, Any] = {"stdin": asyncio.subprocess.DEVNULL, "stdout": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(
        *argv, env=dict(env), stderr=asyncio.subprocess.PIPE, **pipe
    )
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            _, stderr = await process.communicate()
    except TimeoutError:
        raise InternalError(f"{Path(argv[0]).name} did not end within {STEP_TIMEOUT:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = (stderr.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[
            -1
        ]
        raise InternalError(f"{Path(argv[0]).name} failed: {last}")
