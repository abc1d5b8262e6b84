"""Where a process listens: a socket of its own, a port that is free, and the URL that leads there."""

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager

from mcp_federation.errors import Conflict, InvalidRequest

_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not listened on


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to that address, which does not listen yet; port 0 takes a free one.

    It may wait for the name service: not for the event loop.

    Raises:
        Conflict: something listens there already.
        InvalidRequest: this machine has no such address, or we may not use the port.
    """
    with _explained(host, port):
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            # As servers do: else a port is taken for a minute after its last connection.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    return sock


def listen(sock: socket.socket) -> None:
    """Let connections wait at a bound socket, to be taken.

    Raises:
        Conflict: another one, which was bound at the same time, listens there by now.
    """
    with _explained(*sock.getsockname()[:2]):
        sock.listen()


def listening_port(host: str, port: int) -> int:
    """`port` itself, where it can be listened on now; for 0, a free one.

    Raises:
        Conflict: something listens there already.
        InvalidRequest: this machine has no such address, or we may not use the port.
    """
    with bound_socket(host, port) as sock:
        listen(sock)
        found: int = sock.getsockname()[1]
        return found


def local_url(host: str, port: int) -> str:
    """Where a client on this machine finds a server that listens on `host`."""
    host = _THIS_MACHINE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def _explained(host: str, port: int) -> Generator[None, None, None]:
    try:
        yield
    except UnicodeError:
        raise InvalidRequest(f"cannot listen on {host!r}: that is no name of a machine") from None
    except PermissionError:
        raise InvalidRequest(f"port {port} may not be used: choose one above 1023 with --port") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {port} is taken: choose another with --port") from None
        raise InvalidRequest(f"cannot listen on {host!r}: {error.strerror}") from None
