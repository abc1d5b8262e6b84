"""The processes of a benchmark: started by name, measured by pid, stopped by pid whatever happens."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

STOP_PATIENCE = 12.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
CALLER = "caller"
"""The benchmark's own process, which makes the load."""


class StartFailed(Exception):
    """A process that did not come up; the message says why."""


class Group:
    """Processes with a log file each in `folder`; leaving the context stops them, last one first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a process."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                argv,
                env=None if env is None else dict(env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C is ours to pass on, in order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    async def until(self, name: str, ready: Callable[[], bool], timeout: float = 30.0) -> None:
        """Wait until a started process is ready.

        Raises:
            StartFailed: it ended, or was not ready within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            code = self._processes[name].poll()
            if code is not None:
                raise StartFailed(f"{name} ended with code {code}: {self.last_line(name)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{name} was not ready within {timeout:g} s: {self.last_line(name)}")
            await asyncio.sleep(0.05)

    def last_line(self, name: str) -> str:
        """The last line of a process's log."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it said nothing")

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds that each process has used so far; `<name>'s` are those of its children."""
        children = _children()
        roots = {name: process.pid for name, process in self._processes.items()} | {CALLER: os.getpid()}
        used = {}
        for name, pid in roots.items():
            own, *others = _descendants(pid, children, frozenset(roots.values()))
            used[name] = _seconds([own])
            used[f"{name}'s"] = _seconds(others)
        return used

    def stop(self, name: str) -> None:
        """End one process: SIGTERM, then SIGKILL to its session."""
        process = self._processes.pop(name)
        children = [pid for pid in _descendants(process.pid, _children()) if pid != process.pid]
        process.terminate()
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in children:
            if _parent(pid) == 1 and os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for name in reversed(list(self._processes)):
            self.stop(name)


def used_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds by process between two readings."""
    return {name: max(0.0, seconds - before.get(name, 0.0)) for name, seconds in after.items()}


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; the name before may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(folder.name)):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    return children


def _descendants(pid: int, children: Mapping[int, list[int]], but: frozenset[int] = frozenset()) -> list[int]:
    found = [pid]
    for child in children.get(pid, ()):
        if child not in but:
            found += _descendants(child, children, but)
    return found


def _seconds(pids: Sequence[int]) -> float:
    ticks = 0
    for pid in pids:
        if fields := _stat(pid):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS
