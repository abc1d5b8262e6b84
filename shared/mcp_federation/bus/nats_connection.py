"""Opens NATS connections, and tells their owner how they fare."""

import asyncio
import re
import secrets
import ssl
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import nats.errors

from mcp_federation.bus.nats_lane import LaneClient
from mcp_federation.errors import BusUnavailable
from mcp_federation.logs import get_logger

log = get_logger("bus")

CLOSE_TIMEOUT = 1.0

_USER = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ConnectionWatch:
    """Logs how a connection fares, and tells its owner when it is over; `expected` when we close it."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self.on_dropped: Callable[[], None] = lambda: None
        self.on_returned: Callable[[], None] = lambda: None
        self.expected = False
        self._refused = False

    async def on_disconnected(self) -> None:
        """Answers that were awaited may be lost."""
        self.on_dropped()
        if not self.expected:
            log.warn("nats_disconnected")

    async def on_reconnected(self) -> None:
        """A server is reached again, and nats-py has renewed the subscriptions."""
        self._refused = False
        log.info("nats_reconnected")
        self.on_returned()

    async def on_closed(self) -> None:
        """There will be no reconnection."""
        if not self.expected:
            log.error("nats_lost", message="the connection to NATS is over for good")
            self._on_lost()

    async def on_error(self, error: Exception) -> None:
        """Something failed beside that. Every failed try to connect anew comes here too."""
        if _is_refusal(error):
            # It may let us in again, as after a configuration that was mended.
            if not self._refused:
                log.error("nats_refuses_us", message="the NATS server refuses our credentials; trying on")
            self._refused = True
            return
        # The disconnection itself was logged once.
        report = log.debug if isinstance(error, OSError) else log.warn
        report("nats_error", reason=f"{type(error).__name__}: {error}")


async def open_connection(
    url: str, name: str, timeout: float, on_lost: Callable[[], None]
) -> tuple[LaneClient, ConnectionWatch]:
    """A connection to one of the servers, and what watches it; see `NatsBus.connect`.

    Raises:
        BusUnavailable: none of them answers within `timeout` seconds.
    """
    connection = LaneClient()
    watch = ConnectionWatch(on_lost)
    connected = False

    async def on_error(error: Exception) -> None:
        if not connected and (_is_refusal(error) or isinstance(error, ssl.SSLError)):
            raise error  # ends connecting, which nats-py would go on trying
        await watch.on_error(error)

    try:
        async with asyncio.timeout(timeout):
            await connection.connect(
                url.split(","),
                name=name or None,
                error_cb=on_error,
                disconnected_cb=watch.on_disconnected,
                reconnected_cb=watch.on_reconnected,
                closed_cb=watch.on_closed,
                max_reconnect_attempts=-1,
                # Typed int, but slept as it is: a second is long for a server restarted beside us.
                reconnect_time_wait=0.25,  # type: ignore[arg-type]
                connect_timeout=max(1, int(timeout)),
                inbox_prefix=inbox_prefix(url),
            )
    except (OSError, TimeoutError, nats.errors.Error) as error:
        watch.expected = True
        # Of an address that is none nats-py opened nothing, and asserts so on closing.
        with suppress(nats.errors.Error, OSError, AssertionError):
            async with asyncio.timeout(CLOSE_TIMEOUT):  # uvloop never closes what broke off a TLS handshake
                await connection.close()
        raise BusUnavailable(f"{_what(error)} at {_without_secrets(url)}") from error
    connected = True
    return connection, watch


def inbox_prefix(url: str) -> str:
    """What the subjects begin with that answers to this connection come to; nobody can guess it.

    With a user and a password in the URL it is below the user's name, `_INBOX.<user>`, so that a server's
    permissions can keep others from reading along who listen to all.
    """
    key = secrets.token_hex(11)
    first = urlsplit(url.partition(",")[0])
    # A user without a password is a token, which is a secret.
    user = first.username if first.password else None
    return f"_INBOX.{user}.{key}" if user and _USER.fullmatch(user) else f"_INBOX_{key}"


def _without_secrets(url: str) -> str:
    """The addresses without user, password or token."""
    return ",".join(
        f"{scheme}{sep}{rest.rpartition('@')[2]}"
        for scheme, sep, rest in (part.partition("://") for part in url.split(","))
    )


def _what(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the NATS server's certificate is not trusted ({error.verify_message})"
    return "the NATS server refuses our credentials" if _is_refusal(error) else "no NATS server answers"


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, nats.errors.Error) and "authorization" in str(error).lower()
