"""An edge on a real port, and nodes that are nothing but their messages on the bus."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import httpx2
import jsonschema_rs
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.catalog.state import DigestSet
from mcp_federation.client import FederationClient
from mcp_federation.client.balancing import Balancer
from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.mcp import CallParams, decode_params
from mcp_federation.contract.messages import (
    Cancel,
    CatalogEntry,
    Presence,
    Progress,
    RefusedTool,
    ServerState,
    Submission,
    SubmissionAnswer,
    Tool,
    Withdrawal,
    decode,
    encode,
)
from mcp_federation.contract.subjects import (
    CANCEL,
    CATALOG,
    CATALOG_STREAM,
    EXECUTE,
    METRICS_STREAM,
    PRESENCE,
    RULING_STREAM,
    SUBMIT,
    Header,
    node_queue,
)
from mcp_federation.edge.app import create_app
from mcp_federation.edge.metadata_log import MetadataLog
from mcp_federation.edge.server import HttpServer, bind, url_of
from mcp_federation.errors import ToolNotFound
from mcp_federation.privacy.sharing import SharingPolicy
from mcp_federation.settings import Settings
from mcp_federation.trust.approvals import ApprovalVerifier, Approver

HOME = "home"
TOKEN = "the-right-token"

APPROVER = Approver(Ed25519PrivateKey.generate())

ToolFunction = Callable[..., Awaitable[Any]]
Submitted = Callable[[Submission], Awaitable[SubmissionAnswer]]


def schema_of(*properties: str, required: tuple[str, ...] = ()) -> msgspec.Raw:
    schema = {"type": "object", "properties": {name: {} for name in properties}, "required": list(required)}
    return msgspec.Raw(msgspec.json.encode(schema))


class BusNode:
    """A node as the bus sees it: signed entries, a presence, answers to executions and submissions."""

    def __init__(self, bus: Bus, name: str = HOME, approver: Approver = APPROVER) -> None:
        self.bus = bus
        self.name = name
        self.approver = approver
        self.calls: list[CallParams] = []
        self.headers: list[Mapping[str, str]] = []
        self.steps: list[Progress] = []
        self.submissions: list[Submission] = []
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.on_submission: Submitted | None = None
        self._functions: dict[str, ToolFunction] = {}
        self._published = DigestSet()

    async def start(self) -> None:
        await self.bus.respond(EXECUTE.every(self.name), self._execute, queue=node_queue(self.name))
        await self.bus.subscribe(CANCEL.of(self.name), self._cancel)
        await self.bus.respond(SUBMIT.of(self.name), self._submit)
        await self.bus.flush()

    async def publish(
        self, tool: Tool, function: ToolFunction | None = None, *, signed: bool = True, **fields: Any
    ) -> CatalogEntry:
        tool = canonical_tool(tool)
        digest = tool_digest(tool)
        approval = self.approver.approve(self.name, tool.name, digest) if signed else "forged"
        entry = CatalogEntry(
            node=self.name,
            tool=tool,
            digest=digest,
            approval=approval,
            execute_subject=EXECUTE.of(self.name, tool.name) if function else None,
            **fields,
        )
        if function:
            self._functions[tool.name] = function
        self._published.put(tool.name, digest)
        await self.bus.store(CATALOG.of(self.name, tool.name), encode(entry))
        return entry

    async def withdraw(self, name: str) -> None:
        self._published.drop(name)
        await self.bus.store(CATALOG.of(self.name, name), encode(Withdrawal(node=self.name, name=name)))

    async def appear(
        self, *, servers: tuple[ServerState, ...] = (), refused: tuple[RefusedTool, ...] = (), **fields: Any
    ) -> None:
        presence = Presence(
            node=self.name,
            instance="one",
            interval=60,
            catalog_hash=self._published.hash,
            servers=servers,
            refused=refused,
            **fields,
        )
        await self.bus.publish(PRESENCE.of(self.name), encode(presence))

    async def leave(self) -> None:
        await self.appear(status="leaving")

    async def _execute(self, delivery: Delivery) -> Reply:
        params = decode_params(delivery.payload)
        self.calls.append(params)
        self.headers.append(delivery.headers)
        function = self._functions.get(EXECUTE.parse(delivery.subject)[1])
        if function is None:
            raise ToolNotFound("no such tool here")
        if delivery.headers.get(Header.ACCEPT) == "progress":
            for step in self.steps:
                await self.bus.publish(delivery.reply or "", encode(step), {Header.INTERIM: "progress"})
        content = await function(**params.arguments)
        return Reply(msgspec.json.encode(content))

    async def _cancel(self, delivery: Delivery) -> None:
        self.cancelled.put_nowait(decode(delivery.payload, Cancel).request_id)

    async def _submit(self, delivery: Delivery) -> Reply:
        submission = decode(delivery.payload, Submission)
        self.submissions.append(submission)
        assert self.on_submission is not None
        return Reply(encode(await self.on_submission(submission)))

    def request_id(self) -> str:
        """The id of the latest execution."""
        return self.headers[-1][Header.REQUEST_ID]


@dataclass
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Edge:
    """A running edge, asked in this process without a network."""

    app: FastAPI
    catalog: CatalogReplica
    metadata: MetadataLog
    client: httpx2.AsyncClient

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Answer:
        return await self.request("POST", path, json=body, **options)

    async def post_bytes(self, path: str, body: bytes, kind: str = "application/json") -> Answer:
        return await self.request("POST", path, content=body, headers={"Content-Type": kind})

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        response = await self.client.request(method, path, **options)
        answer = Answer(response.status_code, response.headers, response.content)
        check_documented(self.app.openapi(), method, path.partition("?")[0], answer)
        return answer

    async def sees(self, condition: Callable[[], bool]) -> None:
        assert await self.catalog.wait_until(condition, 10)

    async def sees_tool(self, node: str, name: str) -> None:
        await self.sees(lambda: self.catalog.state.get(node, name) is not None)


def check_documented(document: dict[str, Any], method: str, path: str, answer: Answer) -> None:
    """Every answer is as the OpenAPI document says, and every error a problem."""
    if answer.status >= 400 and path != "/readyz":
        assert answer.headers["Content-Type"] == "application/problem+json"
        if answer.body:
            assert answer.json["status"] == answer.status
            assert answer.json["type"] == f"urn:mcp-federation:error:{answer.json['code']}"
    operation = document["paths"].get(path, {}).get(method.lower())
    if operation is None:
        return
    described = operation["responses"][str(answer.status)]
    if "content" not in described:
        assert not answer.body
        return
    media_type = answer.headers["Content-Type"]
    if media_type == "text/event-stream":
        assert media_type in described["content"]
        return
    schema = {**described["content"][media_type]["schema"], "components": document["components"]}
    jsonschema_rs.validator_for(schema).validate(answer.json)


async def ensure_streams(bus: Bus) -> None:
    for spec in (CATALOG_STREAM, RULING_STREAM, METRICS_STREAM):
        await bus.ensure_stream(spec)


def edge_settings(**fields: Any) -> Settings:
    return Settings(node=HOME, **{"token": TOKEN, **fields})


@asynccontextmanager
async def running_edge(
    bus: Any, settings: Settings | None = None, replayed: Callable[[], bool] = lambda: True
) -> AsyncIterator[Edge]:
    settings = settings or edge_settings()
    catalog = CatalogReplica(bus, ApprovalVerifier([APPROVER.public]))
    metadata = MetadataLog(bus, settings.node, replace(SharingPolicy.of(settings), account=None))
    await catalog.start()
    await metadata.start()
    balancer = Balancer(home=settings.node, explore=0)
    client = FederationClient(
        bus, catalog, balancer=balancer, on_outcome=metadata.observe, waits_for_room=False
    )
    app = create_app(client, bus, settings, metadata, replayed=replayed)
    transport = httpx2.ASGITransport(app)
    headers = {"Authorization": f"Bearer {TOKEN}"} if settings.token else {}
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://edge", headers=headers) as http:
            yield Edge(app, catalog, metadata, http)
    finally:
        await metadata.stop()
        await catalog.stop()


@dataclass
class Served:
    """An edge on a real port, and a client with the token; its answers are aiohttp's."""

    edge: Edge
    server: HttpServer
    url: str
    session: aiohttp.ClientSession

    async def execute(self, mcp_name: str, *args: Any, **kwargs: Any) -> Answer:
        body = {"mcp_name": mcp_name, "args": args, "kwargs": kwargs}
        async with self.session.post(self.url + "/execute", json=body) as response:
            return Answer(response.status, response.headers, await response.read())


@asynccontextmanager
async def served(edge: Edge) -> AsyncIterator[Served]:
    """The edge on a free port."""
    started = asyncio.Event()
    server = HttpServer(edge.app, started.set)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    timeout = aiohttp.ClientTimeout(total=20)
    with await bind("127.0.0.1", 0) as sock:
        serving = asyncio.create_task(server.serve([sock]))
        try:
            async with asyncio.timeout(10):
                await started.wait()
            async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
                yield Served(edge, server, url_of(sock), session)
        finally:
            server.stop()
            await asyncio.wait({serving}, timeout=10)
            await stop_task(serving)
