"""The HTTP server of the edge: a socket of our own, and uvicorn on it."""

import asyncio
import errno
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from mcp_federation.edge.protocol import HttpProtocol
from mcp_federation.errors import Conflict, FederationError, InvalidRequest

RESOLVE_TIMEOUT = 5.0
GRACE = 10
"""Seconds that running requests have to end once the server is to stop."""

CANCEL_TIMEOUT = 2.0
KEEP_ALIVE = 75
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised here, not bound to


async def listening_socket(host: str, port: int) -> socket.socket:
    """A socket bound to that address; port 0 takes a free one.

    Raises:
        Conflict: the port is taken.
        InvalidRequest: there is no such address here, or it is not ours to use.
    """
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            addresses = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
    except (OSError, TimeoutError, UnicodeError):
        raise InvalidRequest(f"{host!r} is no address to listen on") from None
    family, kind, protocol, _, address = addresses[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise _cannot_listen(host, port, error) from None
    return sock


def _cannot_listen(host: str, port: int, error: OSError) -> FederationError:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"port {port} on {host} is taken: give another one, or 0 for a free one")
    return InvalidRequest(f"cannot listen on port {port} of {host}: {error.strerror}")


def url_of(sock: socket.socket) -> str:
    """Where a client on this machine finds the server."""
    host, port = sock.getsockname()[:2]
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class HttpServer(uvicorn.Server):
    """uvicorn in somebody else's event loop: it takes no signals and ends when it is told to."""

    def __init__(self, app: ASGIApp, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=HttpProtocol,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._on_started = on_started

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, and tell so."""
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what runs, within `GRACE` seconds, and see the rest through its cancellation."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=CANCEL_TIMEOUT)

    def stop(self) -> None:
        """Take no more connections, and end."""
        self.should_exit = True
