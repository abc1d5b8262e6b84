"""Keeps child processes running: starts them, starts again what dies, stops them all in reverse order."""

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from mcp_federation.bus.handling import stop_task
from mcp_federation.errors import FederationError, InternalError
from mcp_federation.logs import get_logger
from mcp_federation.mesh.child_log import last_error, open_log

log = get_logger("up")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 15.0
STEADY_AFTER: Final = 10.0
"""Seconds that a child must have run for its next restart to be a fast one again."""

STOP_PATIENCE: Final = 12.0
"""Seconds that a child has between SIGTERM and SIGKILL: a node gives its MCP servers 8 of them."""

KILL_PATIENCE: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Command:
    """A process to run: its name in the mesh, its command line, and the whole of its environment."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]


class ChildProcess:
    """One command under supervision. Its output goes to `log_file`.

    `on_start` is called at every start, `on_end` at every end that nobody asked for: it says whether to
    start again. `exit_code` and `ended` then hold how and why it ended.
    """

    def __init__(
        self,
        command: Command,
        log_file: Path,
        *,
        on_start: Callable[[], None] = lambda: None,
        on_end: Callable[["ChildProcess"], bool] = lambda _: True,
    ) -> None:
        self.command = command
        self.exit_code = 0
        self.ended = ""
        self._log_file = log_file
        self._on_start = on_start
        self._on_end = on_end
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    @property
    def name(self) -> str:
        """Its name in the mesh."""
        return self.command.name

    @property
    def pid(self) -> int | None:
        """The process id, None between an end and the next start."""
        return self._process.pid if self._process is not None else None

    async def stop(self, patience: float = STOP_PATIENCE) -> None:
        """SIGTERM, and after `patience` seconds SIGKILL to its whole process group."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        await asyncio.wait([self._task], timeout=patience)
        if not self._task.done():
            log.warn(
                "process_killed", name=self.name, message=f"{self.name} ignored SIGTERM for {patience:g} s"
            )
            self._signal(signal.SIGKILL, group=True)
            await asyncio.wait([self._task], timeout=KILL_PATIENCE)
        await stop_task(self._task)

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = loop.time()
            await self._run_once()
            if self._stopping.is_set() or not self._on_end(self):
                return
            if loop.time() - began > STEADY_AFTER:
                pause = FIRST_PAUSE
            log.warn(
                "process_ended",
                name=self.name,
                message=f"{self.name} ended and is started again",
                reason=self.ended,
                in_seconds=round(pause, 1),
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(pause * 3, LONGEST_PAUSE)

    async def _run_once(self) -> None:
        """Start it, and wait for its end."""
        try:
            with open_log(self._log_file) as output:
                logged = output.tell()
                self._process = await asyncio.create_subprocess_exec(
                    *self.command.argv,
                    env=dict(self.command.env),
                    stdin=DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=_before_exec(),
                )
        except OSError as error:
            self.exit_code = 127
            self.ended = f"it cannot be started: {error.strerror or error}"
            return
        if self._stopping.is_set():  # set while it was being started
            self._signal(signal.SIGTERM)
        self._on_start()
        self.exit_code = await self._process.wait()
        self._process = None
        self.ended = _how_it_ended(self.exit_code, last_error(self._log_file, logged))

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self._process.pid, number)


class ProcessGroup:
    """All children of this process, in stages; leaving the context stops them, the last stage first.

    `on_change` is called whenever a child started or ended. Until `settle` is called, a child that ends
    by itself makes the whole group fail: what cannot start once will not start later.
    """

    def __init__(self, log_dir: Path, on_change: Callable[[], None] = lambda: None) -> None:
        self._log_dir = log_dir
        self._on_change = on_change
        self._stages: list[list[ChildProcess]] = []
        self._settled = False
        self._failed: asyncio.Future[FederationError] = asyncio.get_running_loop().create_future()

    @property
    def pids(self) -> dict[str, int]:
        """The process id of every child that runs now."""
        return {child.name: child.pid for stage in self._stages for child in stage if child.pid is not None}

    def start(self, *commands: Command) -> None:
        """Start a stage: its children are stopped together, before those of earlier stages."""
        stage: list[ChildProcess] = []
        self._stages.append(stage)
        stage.extend(
            ChildProcess(
                command,
                self._log_dir / f"{command.name}.log",
                on_start=self._on_change,
                on_end=self._ended,
            )
            for command in commands
        )

    def settle(self) -> None:
        """All have started: from now on whatever ends is only started again."""
        self._settled = True

    async def failure(self) -> FederationError:
        """Wait until a child fails to start; why it did."""
        return await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Stop all, the last stage first."""
        self._settled = True
        while self._stages:
            await asyncio.gather(*(child.stop() for child in self._stages[-1]))
            self._stages.pop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _ended(self, child: ChildProcess) -> bool:
        """Whether to start it again: a signal is somebody else's doing and no reason to give up."""
        self._on_change()
        if self._settled or child.exit_code <= 0:
            return True
        if not self._failed.done():
            self._failed.set_result(InternalError(f"{child.name} does not start: {child.ended}"))
        return False


def _how_it_ended(code: int, last_words: str) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    return last_words or f"it exited with code {code}"


def _before_exec() -> Callable[[], None]:
    """What a child does before it becomes its command; the library is loaded here, before the fork."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    return partial(_detach, os.getpid(), prctl)


def _detach(parent: int, prctl: Callable[..., int] | None) -> None:
    # A group of its own: the terminal's Ctrl-C is for the parent, which then stops all in order.
    os.setpgid(0, 0)
    if prctl is not None:
        # A parent that was killed outright leaves nothing behind.
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
