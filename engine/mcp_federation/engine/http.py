"""One HTTP exchange of JSON with a peer that may be down, slow, huge or hostile."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from mcp_federation.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NodeUnavailable,
    PayloadTooLarge,
    ServerUnavailable,
)

_CHUNK = 64 * 1024


def bearer(token: str | None) -> dict[str, str]:
    """The header that carries the token.

    Raises:
        InvalidRequest: the token cannot stand in a header.
    """
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()):
        raise InvalidRequest("the token has characters that cannot stand in an HTTP header")
    return {"Authorization": f"Bearer {token}"}


async def exchange(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    timeout: float,
    max_bytes: int,
    body: Any = None,
    peer: str,
) -> tuple[int, bytes]:
    """The status and body of the answer. `timeout` in seconds, for all of it; `peer` names it in errors.

    Redirects are not followed (they would carry the token along) and nothing is decompressed.

    Raises:
        InvalidRequest: the body is no JSON value, or the URL none of http or https, or it holds a login and
            the headers another.
        NodeUnavailable: no connection, or none to be trusted; the peer got nothing.
        ServerUnavailable: the peer broke off, or speaks no HTTP.
        DeadlineExceeded: no whole answer in time.
        PayloadTooLarge: the answer is over `max_bytes`.
    """
    headers = {**headers, "Accept": "application/json", "Accept-Encoding": "identity"}
    try:
        data = None if body is None else msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("the arguments cannot be written as JSON") from error
    if data is not None:
        headers["Content-Type"] = "application/json"
    try:
        async with (
            asyncio.timeout(timeout),
            aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout()) as session,
            session.request(method, url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            return response.status, await _read(response, max_bytes, peer)
    except TimeoutError as error:
        raise DeadlineExceeded(f"{peer} gave no answer within {timeout:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        why = getattr(error.certificate_error, "verify_message", "it is none")
        raise NodeUnavailable(f"the TLS certificate of {peer} is not trusted: {why}") from error
    except aiohttp.ClientConnectorError as error:
        raise NodeUnavailable(f"{peer} cannot be reached") from error
    except (aiohttp.NonHttpUrlClientError, ValueError) as error:
        raise InvalidRequest(f"the URL of {peer} is not valid, or holds a login beside the token") from error
    except aiohttp.ClientError as error:
        raise ServerUnavailable(f"{peer} broke off its answer") from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int, peer: str) -> bytes:
    chunks: list[bytes] = []
    left = max_bytes
    async for chunk in response.content.iter_chunked(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise PayloadTooLarge(f"{peer} answered more than {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
