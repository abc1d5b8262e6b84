"""The state directory of a mesh: who may use it, what lies where in it, and the mesh that runs on it."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from mcp_federation.errors import Conflict, FederationError, InvalidRequest
from mcp_federation.files import write_whole

LOCK_PATIENCE: Final = 2.0
"""Seconds to wait for the lock: a mesh that was killed outright is still draining for a moment."""

_LOCK_RETRY: Final = 0.1


class RunningMesh(Struct, frozen=True, kw_only=True):
    """What a client needs of a running mesh; `processes` are its process ids by name.

    `nats_url` holds the credentials, where there are any.
    """

    nats_url: str
    edge_url: str
    trusted_keys: tuple[str, ...]
    home: str
    processes: dict[str, int] = msgspec.field(default_factory=dict)


class StateDir:
    """The files of one mesh, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.logs = self.root / "logs"
        self.files = self.root / "files"
        self.demo = self.root / "demo"
        self.nats = self.root / "nats"
        self.governance = self.root / "governance"
        self._mesh = self.root / "mesh.json"

    def of_process(self, name: str) -> Path:
        """The state directory of one process."""
        return self.root / name

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the directory, made where it is not there, for this process alone.

        Raises:
            Conflict: another mesh runs on it.
            InvalidRequest: it cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InvalidRequest(f"cannot keep state in {self.root}: {error.strerror}") from None
        try:
            await self._acquire(lock)
            yield
        finally:
            os.close(lock)

    async def _acquire(self, lock: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if loop.time() >= deadline:
                    raise Conflict(f"a mesh already runs on {self.root}{self._where()}") from None
                await asyncio.sleep(_LOCK_RETRY)
            else:
                return

    def _where(self) -> str:
        try:
            return f", at {self.read_mesh().edge_url}"
        except FederationError:  # it is starting
            return ""

    def write_mesh(self, mesh: RunningMesh) -> None:
        """Say what runs here, for clients on this machine; readable by the owner alone."""
        write_private(self._mesh, msgspec.json.format(msgspec.json.encode(mesh), indent=2))

    def forget_mesh(self) -> None:
        """Nothing runs here any more."""
        self._mesh.unlink(missing_ok=True)

    def read_mesh(self) -> RunningMesh:
        """The mesh that runs here.

        Raises:
            FederationError: none does, or its file cannot be read.
        """
        try:
            return msgspec.json.decode(self._mesh.read_bytes(), type=RunningMesh)
        except FileNotFoundError:
            raise FederationError(
                f"no mesh runs on {self.root}: start one with `mcp-federation up`, "
                "or name one with --nats and --trust"
            ) from None
        except (OSError, msgspec.DecodeError) as error:
            raise FederationError(f"cannot read {self._mesh}: {error}") from None


def write_private(path: Path, content: bytes) -> None:
    """Have a file with that content, whole at once, which others may not read; its folder may be new."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, content)
