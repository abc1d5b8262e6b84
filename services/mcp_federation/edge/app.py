"""Composition of the edge: the application from its parts, and the process around it."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_federation.bus.protocol import Bus
from mcp_federation.catalog.performance import PerformanceView
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.client import FederationClient
from mcp_federation.client.balancing import Balancer
from mcp_federation.edge.discovery import DISCOVER, Discover
from mcp_federation.edge.execution import EXECUTE, Execute
from mcp_federation.edge.guard import Gate, Guard
from mcp_federation.edge.health import HEALTH, READINESS, Ready, healthz
from mcp_federation.edge.incoming import BodyReader
from mcp_federation.edge.metadata import RECENT, UPLOAD, RecentRecords, UploadRecords
from mcp_federation.edge.metadata_log import MetadataLog
from mcp_federation.edge.openapi import openapi_document
from mcp_federation.edge.operations import Direct, Handler, Operation, routes
from mcp_federation.edge.problems import on_error
from mcp_federation.edge.registration import REGISTER, Register
from mcp_federation.edge.server import HttpServer, bind, url_of
from mcp_federation.errors import BusUnavailable, DeadlineExceeded, FederationError, InvalidRequest
from mcp_federation.listening import listen
from mcp_federation.logs import get_logger
from mcp_federation.privacy.sharing import SharingPolicy
from mcp_federation.process import connected
from mcp_federation.settings import Settings
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import TrustedKey, read_trusted_keys
from mcp_federation.trust.policy_file import load_policy
from mcp_federation.version import VERSION

log = get_logger("edge")

REPLAY_TIMEOUT = 10.0
"""Seconds after which an edge that still waits for the catalog says so, and begins anew."""

OPENAPI_PATH = "/openapi.json"
_REQUEST_LEVELS = ("http", "verbose", "debug", "silly")


class _Api(FastAPI):
    """FastAPI with a document of ours instead of one that it would derive from pydantic models.

    Operations that are handled directly pass by its middleware and its routing, which cost more than a call
    over the bus; whatever else comes to their paths does not.
    """

    document: dict[str, Any]
    direct: dict[tuple[str, str], ASGIApp]

    def openapi(self) -> dict[str, Any]:
        return self.document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.direct.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (app or super().__call__)(scope, receive, send)


def create_app(
    client: FederationClient,
    bus: Bus,
    settings: Settings,
    metadata: MetadataLog,
    *,
    replayed: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """The REST API over a client whose catalog replica, and a metadata log, that somebody else starts.

    `replayed` tells whether the replica has read the catalog; until then the tools answer 503.
    """
    gate = Gate(settings.token.get_secret_value() if settings.token else None)
    handlers = _handlers(client, bus, settings, metadata, replayed, gate)
    app = _Api(
        title="MCP Federation",
        version=VERSION,
        routes=routes(handlers),
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={FederationError: on_error, HTTPException: on_error},
    )
    app.document = openapi_document(handlers, token_needed=not gate.open)
    public = {operation.path for operation in handlers if operation.public}
    guarded = partial(
        Guard, gate=gate, public=public | {OPENAPI_PATH}, log_requests=settings.log_level in _REQUEST_LEVELS
    )
    app.add_middleware(guarded)
    app.direct = {
        (operation.method, operation.path): guarded(handler.app)
        for operation, handler in handlers.items()
        if isinstance(handler, Direct)
    }
    if gate.open:
        log.warn(
            "edge_open",
            message="MCP_FEDERATION_TOKEN is not set: whoever reaches this edge may execute tools",
        )
    return app


def _handlers(
    client: FederationClient,
    bus: Bus,
    settings: Settings,
    metadata: MetadataLog,
    replayed: Callable[[], bool],
    gate: Gate,
) -> dict[Operation, Handler | Direct]:
    catalog, home = client.catalog, settings.node
    reader = BodyReader(settings.max_body, settings.max_depth)

    def check_catalog() -> None:
        if not replayed():
            raise BusUnavailable("the catalog has not been read yet")

    return {
        DISCOVER: Discover(client, home, check_catalog),
        EXECUTE: Direct(Execute(client, settings, check_catalog)),
        UPLOAD: UploadRecords(metadata, catalog.state, home, reader),
        RECENT: RecentRecords(metadata, catalog.state, home),
        REGISTER: Register(bus, catalog, settings, reader),
        HEALTH: healthz,
        READINESS: Ready(bus, catalog.state, replayed, home, gate),
    }


async def run(
    settings: Settings, stop: asyncio.Event, *, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve the REST API until `stop`; `on_ready` is given its URL once it takes requests.

    Raises:
        InvalidRequest: no key is trusted, the import policy is none, or the address is not to be had.
        Conflict: the port is taken.
        BusUnavailable: no NATS server answers.
    """
    keys = _trusted_keys(settings)
    imports = load_policy(settings.import_policy) if settings.import_policy else None
    with await bind(settings.host, settings.port) as sock:
        url = url_of(sock)

        def started() -> None:
            log.info("edge_ready", message=f"serving the REST API at {url}", url=url, node=settings.node)
            if on_ready is not None:
                on_ready(url)

        async with connected(settings, "edge", stop) as bus:
            catalog = CatalogReplica(bus, ApprovalVerifier(keys), imports)
            await _serve(settings, bus, catalog, sock, started, stop)
    log.info("edge_stopped", url=url)


async def _serve(
    settings: Settings,
    bus: Bus,
    catalog: CatalogReplica,
    sock: socket.socket,
    started: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    metadata = MetadataLog(bus, settings.node, SharingPolicy.of(settings))
    figures = PerformanceView(bus)
    client = FederationClient(
        bus,
        catalog,
        balancer=Balancer(figures, home=settings.node),
        on_outcome=metadata.observe,
        max_payload=settings.max_payload,
        waits_for_room=False,
    )
    replayed = asyncio.Event()
    server = HttpServer(create_app(client, bus, settings, metadata, replayed=replayed.is_set), started)
    try:
        await metadata.start()
        await figures.start()
        listen(sock)
        async with asyncio.TaskGroup() as tasks:
            replay = tasks.create_task(_replay(catalog, replayed))
            tasks.create_task(server.serve([sock]))
            await stop.wait()
            replay.cancel()
            server.stop()
    finally:
        await client.close()
        await figures.stop()
        await metadata.stop()
        await catalog.stop()


def _trusted_keys(settings: Settings) -> tuple[TrustedKey, ...]:
    keys = read_trusted_keys(settings.trusted_keys)
    if not keys:
        raise InvalidRequest(
            "no governance key is trusted: set MCP_FEDERATION_TRUSTED_KEYS to keys or files of keys"
        )
    return keys


async def _replay(catalog: CatalogReplica, replayed: asyncio.Event) -> None:
    """Start the replica; governance, which makes the catalog's stream, may be starting beside us."""
    while not replayed.is_set():
        try:
            await catalog.start(REPLAY_TIMEOUT)
            replayed.set()
        except DeadlineExceeded as error:
            log.warn("catalog_awaited", reason=error.message)
            await catalog.stop()
