"""Which TCP ports can be listened on."""

import errno
import socket

from mcp_federation.errors import Conflict, InvalidRequest


def listening_port(host: str, port: int) -> int:
    """`port` itself, where it can be listened on now; for 0, a free one.

    Raises:
        Conflict: something listens there already.
        InvalidRequest: this machine has no such address, or we may not use the port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InvalidRequest(f"cannot listen on {host!r}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: else a port is taken for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except PermissionError:
            raise InvalidRequest(f"port {port} may not be used: choose one above 1023 with --port") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Conflict(f"port {port} is taken: choose another with --port") from None
            raise InvalidRequest(f"cannot listen on {host}:{port}: {error.strerror}") from None
        found: int = probe.getsockname()[1]
        return found
