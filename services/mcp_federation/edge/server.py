"""The HTTP server of the edge: a socket of our own, and uvicorn on it."""

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from mcp_federation.edge.protocol import HttpProtocol
from mcp_federation.errors import InvalidRequest
from mcp_federation.listening import bound_socket, local_url

RESOLVE_TIMEOUT = 5.0
GRACE = 10
"""Seconds that running requests have to end once the server is to stop."""

CANCEL_TIMEOUT = 2.0
KEEP_ALIVE = 75


async def bind(host: str, port: int) -> socket.socket:
    """A socket bound to that address; port 0 takes a free one.

    Raises:
        Conflict: the port is taken.
        InvalidRequest: there is no such address here, or it is not ours to use.
    """
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            return await asyncio.to_thread(bound_socket, host, port)
    except TimeoutError:
        raise InvalidRequest(f"cannot listen on {host!r}: no name service tells where that is") from None


def url_of(sock: socket.socket) -> str:
    """Where a client on this machine finds the server."""
    return local_url(*sock.getsockname()[:2])


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
