"""`POST /execute`: one call of a tool, for as long as the caller stays on the line."""

import asyncio
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from mcp_federation.bus.handling import stop_task
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.client import FederationClient
from mcp_federation.contract.mcp import CallResult
from mcp_federation.edge.incoming import BodyReader
from mcp_federation.edge.operations import Operation, json_response
from mcp_federation.edge.wire import ExecuteRequest, ExecuteResponse, execute_decoder
from mcp_federation.errors import (
    BusUnavailable,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    InvalidArguments,
    InvalidRequest,
    NodeLost,
    NodeUnavailable,
    NotExecutable,
    OutcomeForgotten,
    Overloaded,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
)
from mcp_federation.settings import Settings

EXECUTE = Operation(
    method="POST",
    path="/execute",
    summary="Execute a tool",
    description=(
        "A plain name goes to the best available provider, and on to the next while nothing ran. "
        "A caller that hangs up cancels the execution."
    ),
    body=ExecuteRequest,
    answers={200: ExecuteResponse},
    errors=(
        ToolNotFound,
        NotExecutable,
        OutcomeForgotten,
        InvalidArguments,
        Overloaded,
        Cancelled,
        ToolFailed,
        ServerUnavailable,
        NodeUnavailable,
        NodeLost,
        BusUnavailable,
        ConnectionLost,
        DeadlineExceeded,
    ),
)


class Execute:
    """Translates a call to the bus and its outcome back."""

    def __init__(
        self, client: FederationClient, settings: Settings, check_catalog: Callable[[], None]
    ) -> None:
        self._client = client
        self._reader = BodyReader(settings)
        self._timeout = settings.call_timeout
        self._max_timeout = settings.max_call_timeout
        self._check_catalog = check_catalog

    async def __call__(self, request: Request) -> Response:
        """Answer `POST /execute`."""
        call = await self._reader.read(request, execute_decoder)
        timeout = self._timeout if call.timeout is None else call.timeout
        if timeout > self._max_timeout:
            raise InvalidRequest(f"the longest timeout here is {self._max_timeout:g} s")
        self._check_catalog()
        tool, result = await self._while_connected(call, timeout, request.receive)
        return json_response(ExecuteResponse(result=result.value, node=tool.node, tool=tool.name))

    async def _while_connected(
        self, call: ExecuteRequest, timeout: float, receive: Receive
    ) -> tuple[CatalogTool, CallResult]:
        """The outcome; when the caller hangs up first, the execution is cancelled."""
        loop = asyncio.get_running_loop()
        execution = loop.create_task(
            self._client.execute_any(call.mcp_name, call.args, call.kwargs, timeout=timeout)
        )
        hanging_up = loop.create_task(_hung_up(receive))
        try:
            await asyncio.wait((execution, hanging_up), return_when=asyncio.FIRST_COMPLETED)
            if not execution.done():
                raise ClientDisconnect
            return execution.result()
        finally:
            await stop_task(execution)
            await stop_task(hanging_up)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
