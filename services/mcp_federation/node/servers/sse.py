"""MCP's older transport: answers come in one stream of events, requests go by POSTs beside it.

The SDK has a client for it too, which takes no event over 1 MiB, and none at all behind a POST that failed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Self

import anyio
import httpx2
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskStatus
from mcp import MCPError

# They follow redirects within the origin only, as our headers are not for others.
from mcp.shared._httpx_utils import request_within_origin, sse_within_origin
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, JSONRPCRequest, jsonrpc_message_adapter
from pydantic import ValidationError

from mcp_federation.node.servers.faults import Ended

Incoming = SessionMessage | Exception


class Posts:
    """The stream of what goes to the server: each message is one POST, sent in the task of its sender."""

    def __init__(self, http: httpx2.AsyncClient, endpoint: httpx2.URL) -> None:
        self._http = http
        self._endpoint = endpoint
        self._is_closed = False

    async def send(self, item: SessionMessage) -> None:
        """Post it.

        Raises:
            MCPError: the server refused a request.
            httpx2.RequestError: it did not get through.
        """
        if self._is_closed:
            raise anyio.ClosedResourceError
        message = item.message
        body = message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        response = await request_within_origin(self._http, "POST", self._endpoint, json=body)
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES and isinstance(message, JSONRPCRequest):
            raise MCPError(INTERNAL_ERROR, f"it answers with HTTP status {response.status_code}")

    async def aclose(self) -> None:
        """Take no more."""
        self._is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


@asynccontextmanager
async def sse_transport(
    url: str, http: httpx2.AsyncClient, max_event: int
) -> AsyncIterator[tuple[ObjectReceiveStream[Incoming], Posts]]:
    """Connect to the stream at `url`, of which no event may be over `max_event` bytes.

    What the server sends ends with the stream, and where that breaks.
    """
    async with sse_within_origin(http, url, max_event_size=max_event) as events:
        events.response.raise_for_status()
        sending, receiving = anyio.create_memory_object_stream[Incoming](0)
        async with sending, receiving, anyio.create_task_group() as group:
            endpoint = await group.start(_read, events, sending)
            yield receiving, Posts(http, endpoint)
            group.cancel_scope.cancel()


async def _read(
    events: httpx2.EventSource, sending: ObjectSendStream[Incoming], *, task_status: TaskStatus[httpx2.URL]
) -> None:
    """Pass on what comes, behind the name of the endpoint."""
    is_started = False
    async with sending:
        try:
            async for event in events:
                if event.event == "endpoint" and not is_started:
                    task_status.started(_endpoint(events.response.request.url, event.data))
                    is_started = True
                elif event.event == "message" and event.data:
                    await sending.send(_message(event.data))
        except (httpx2.RequestError, anyio.BrokenResourceError):
            if not is_started:
                raise
    if not is_started:
        raise Ended("it names no endpoint for requests")


def _endpoint(url: httpx2.URL, named: str) -> httpx2.URL:
    endpoint = url.join(named)
    if (endpoint.scheme, endpoint.netloc) != (url.scheme, url.netloc):
        raise Ended("it names an endpoint that is not its own")
    return endpoint


def _message(data: str) -> Incoming:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(data, by_name=False))
    except ValidationError as error:
        return error
