"""Calls over streamable HTTP of the 2026-07-28 revision: each is one POST, which knows of no other."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    encode_header_value,
)
from mcp_types import HEADER_MISMATCH
from msgspec import UNSET
from multidict import CIMultiDict
from yarl import URL

from mcp_federation.errors import ServerUnavailable
from mcp_federation.node.servers.calls.calling import (
    Disconnected,
    OnProgress,
    Outcome,
    replaced,
    tell,
    too_late,
)
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.calls.events import EventStream, TooLong
from mcp_federation.node.servers.calls.refused import refused
from mcp_federation.node.servers.calls.results import BrokenContract, Results
from mcp_federation.node.servers.calls.wire import Incoming, Requests, decode, progress_of, refusal

CONNECT_TIMEOUT = 10.0
KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept: many servers close theirs after five."""

ENVELOPE = 64 * 1024
"""Bytes that an answer may have beside the result."""

END_TIMEOUT = 0.05
"""Seconds that the end of a stream may lag behind the answer in it."""

_REDIRECTS = (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT)


class HttpCalls:
    """Calls tools of one server by POSTs over kept connections; see `Calls`."""

    def __init__(
        self,
        server: str,
        url: str,
        headers: Mapping[str, str],
        protocol_version: str,
        declared: Declared,
        results: Results,
    ) -> None:
        self._server = server
        self._url = URL(url)
        self._requests = Requests(protocol_version)
        self._declared = declared
        self._results = results
        self._limit = results.max_payload + ENVELOPE
        self._numbers = count(1)
        self._headers = CIMultiDict(headers)
        self._headers.update(
            {
                "Accept": "application/json, text/event-stream",
                "Content-Type": "application/json",
                MCP_PROTOCOL_VERSION_HEADER: protocol_version,
                MCP_METHOD_HEADER: "tools/call",
            }
        )
        self._proxy = _proxy_of(self._url)
        # Certificates are judged as in the handshake, which is httpx2's.
        ssl = httpx2.create_ssl_context() if self._url.scheme == "https" else True
        self._session = aiohttp.ClientSession(
            # The calls at once are bounded before.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, ssl=ssl),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        )

    async def call(
        self, name: str, arguments: dict[str, Any], timeout: float, on_progress: OnProgress | None
    ) -> Outcome:
        """See `Calls`. To close the stream is what tells the server that nobody waits any more."""
        if self._session.closed:
            raise replaced(self._server)
        request = self._requests.call(next(self._numbers), name, arguments, on_progress is not None)
        headers = self._headers.copy()
        headers[MCP_NAME_HEADER] = encode_header_value(name)
        headers.update(self._declared.headers(name, arguments))
        try:
            async with asyncio.timeout(timeout):
                return await self._post(name, request, headers, on_progress)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Disconnected(f"the MCP server {self._server!r} cannot be reached", ran=False) from error
        except TimeoutError:
            raise too_late(timeout) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(f"the connection to the MCP server {self._server!r} failed") from error

    async def close(self) -> None:
        """See `Calls`."""
        await self._session.close()

    async def _post(
        self,
        name: str,
        request: bytes,
        headers: CIMultiDict[str],
        on_progress: OnProgress | None,
        may_move: bool = True,
    ) -> Outcome:
        async with self._session.post(
            self._url, data=request, headers=headers, allow_redirects=False, proxy=self._proxy
        ) as response:
            if response.status not in _REDIRECTS:
                return await self._read(name, response, on_progress)
            self._move(response.headers.get("Location", "") if may_move else "")
        return await self._post(name, request, headers, on_progress, may_move=False)

    def _move(self, location: str) -> None:
        """Go where the server sends us, if that is itself: our headers are not for others."""
        with suppress(ValueError):
            target = self._url.join(URL(location))
            if location and target.origin() == self._url.origin():
                self._url = target
                return
        raise ServerUnavailable(f"the MCP server {self._server!r} sends its callers elsewhere")

    async def _read(
        self, name: str, response: aiohttp.ClientResponse, on_progress: OnProgress | None
    ) -> Outcome:
        if response.status == HTTPStatus.OK and response.content_type == "text/event-stream":
            return await self._events(name, response, on_progress)
        message = await self._message(response)
        if message is None or (message.result is UNSET and message.error is None):
            raise self._unreadable(response)
        return self._answer(name, message)

    async def _message(self, response: aiohttp.ClientResponse) -> Incoming | None:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._limit:
                raise self._results.too_large()
        body = b"".join(chunks)
        return decode(body) if response.content_type == "application/json" else None

    def _unreadable(self, response: aiohttp.ClientResponse) -> Exception:
        if response.status >= HTTPStatus.BAD_REQUEST:
            retry_after = response.headers.get("Retry-After", "")
            return refused(response.status, self._server, retry_after=retry_after)
        return BrokenContract(f"an answer of status {response.status} that is none")

    def _answer(self, name: str, message: Incoming) -> Outcome:
        if message.error is None:
            return self._results.read(name, message.result or b"")
        if message.error.code == HEADER_MISMATCH:
            # The tool's schema changed, and with it which arguments go into headers.
            raise Disconnected(f"the MCP server {self._server!r} changed the tool {name!r}", ran=False)
        raise refusal(message.error, self._server, name)

    async def _events(
        self, name: str, response: aiohttp.ClientResponse, on_progress: OnProgress | None
    ) -> Outcome:
        events = EventStream(self._limit)
        async for chunk in response.content.iter_any():
            try:
                complete = events.feed(chunk)
            except TooLong:
                raise self._results.too_large() from None
            for data in complete:
                message = decode(data)
                if message is None:
                    raise BrokenContract("an event that is no JSON-RPC message")
                if message.result is not UNSET or message.error is not None:
                    await _read_to_the_end(response)
                    return self._answer(name, message)
                if message.method == "notifications/progress" and on_progress is not None:
                    given = progress_of(message.params)
                    if given is not None:
                        tell(on_progress, given[1])
        raise Disconnected(f"the MCP server {self._server!r} ended its answer too early")


async def _read_to_the_end(response: aiohttp.ClientResponse) -> None:
    """So that the connection can be kept, where the stream ends with the answer as it should."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(END_TIMEOUT):
            await response.content.readany()


def _proxy_of(url: URL) -> str | None:
    """The proxy that the environment names for it, looked up once."""
    if proxy_bypass(url.host or ""):
        return None
    return getproxies().get(url.scheme)
