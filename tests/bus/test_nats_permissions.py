"""Organisations on one NATS server with the permissions that we ship: each speaks for itself alone."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_federation.bus.nats import NatsBus
from mcp_federation.bus.nats_connection import inbox_prefix
from mcp_federation.bus.protocol import Delivery, Stored
from mcp_federation.catalog.performance import PerformanceView
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.client import FederationClient
from mcp_federation.contract.messages import Progress
from mcp_federation.contract.subjects import (
    AUDIT,
    CASE,
    CATALOG,
    CLAIM,
    EXECUTE,
    METRICS,
    PERFORMANCE,
    PRESENCE,
    REGISTER,
    REVIEW,
    RULING,
    SUBMISSION,
    SUBMISSION_STREAM,
    SUBMIT,
)
from mcp_federation.edge import app as edge_app
from mcp_federation.edge.metadata_log import MetadataLog
from mcp_federation.errors import DeadlineExceeded
from mcp_federation.metrics.worker import MetricsWorker
from mcp_federation.privacy.sharing import SharingPolicy
from mcp_federation.settings import load_settings
from mcp_federation.trust.approvals import ApprovalVerifier
from tests.support.nats_server import NatsServer
from tests.support.node_servers import Mesh, boxed
from tests.support.sdk_servers import sdk_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.bus

CONFIG = Path(__file__).parent.parent.parent / "deploy" / "nats" / "organisations.conf"
MORE_THAN_A_MESSAGE = 3 * 1024 * 1024


class Organisations:
    """A mesh whose parts log in as their organisations: the next one as `user`."""

    def __init__(self, server: NatsServer, folder: Path, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack
        self._user = "hub"
        self.mesh = Mesh(self._connect, folder)

    def url(self, user: str) -> str:
        return f"nats://{user}:{user}-password@127.0.0.1:{self._server.port}"

    async def connect(self, user: str) -> NatsBus:
        return await self._stack.enter_async_context(await NatsBus.connect(self.url(user)))

    async def _connect(self) -> NatsBus:
        return await self.connect(self._user)

    @property
    def log(self) -> str:
        """What the server wrote, of violated permissions too."""
        return (self._server.folder / "nats.log").read_text()

    async def start(self) -> None:
        await self.mesh.open()
        self._stack.push_async_callback(self.mesh.close)
        metrics = MetricsWorker(await self.connect("hub"))
        await metrics.start()
        self._stack.push_async_callback(metrics.stop)
        for self._user in ("acme", "globex"):
            await self.mesh.node(boxed(sdk_server("box")), name=self._user)
        await self.mesh.has("box.echo", node="acme")
        await self.mesh.has("box.echo", node="globex")

    async def client(self, user: str) -> FederationClient:
        bus = await self.connect(user)
        catalog = CatalogReplica(bus, ApprovalVerifier([self.mesh.key]))
        for part in (catalog, PerformanceView(bus), MetadataLog(bus, user, SharingPolicy())):
            await part.start()
            self._stack.push_async_callback(part.stop)
        return FederationClient(bus, catalog)


@pytest.fixture
async def organisations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Organisations]:
    for user in ("hub", "acme", "globex"):
        monkeypatch.setenv(f"MCPFED_{user.upper()}_PASSWORD", f"{user}-password")
    with NatsServer(tmp_path, config=CONFIG.read_text()) as server:
        async with AsyncExitStack() as stack:
            organisations = Organisations(server, tmp_path, stack)
            await organisations.start()
            yield organisations


async def test_each_publishes_its_tools_and_calls_those_of_the_other(organisations: Organisations) -> None:
    client = await organisations.client("globex")
    steps: list[Progress] = []
    result = await client.execute("box.steps@acme", {"to": 3}, on_progress=steps.append)
    assert (result.value, len(steps)) == (3, 3)
    text = "x" * MORE_THAN_A_MESSAGE
    assert (await client.execute("box.echo@acme", {"text": text})).value == text
    await client.close()
    assert "Violation" not in organisations.log


async def test_an_edge_serves_its_organisation(organisations: Organisations) -> None:
    keys = (str(organisations.mesh.key),)
    settings = load_settings(node="acme", nats_url=organisations.url("acme"), port=0, trusted_keys=keys)
    stop, urls = asyncio.Event(), asyncio.Queue[str]()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(edge_app.run(settings, stop, on_ready=urls.put_nowait))
        async with aiohttp.ClientSession(await urls.get()) as session:

            async def gives(status: int, path: str, body: Any) -> bool:
                async with session.post(path, json=body) as answer:
                    return answer.status == status

            call = {"mcp_name": "box.echo@globex", "kwargs": {"text": "a"}}
            await eventually(lambda: gives(200, "/execute", call))
            described = {"name": "words", "description": "Counts the words of a text.", "version": "1.0.0"}
            assert await gives(201, "/register", described)
            record = {"mcp_name": "box.echo", "success": True, "latency_ms": 1.0}
            assert await gives(204, "/metadata", [record])
        stop.set()
    assert "Violation" not in organisations.log


async def test_nobody_speaks_for_another_organisation(organisations: Organisations) -> None:
    hub, globex = organisations.mesh.bus, await organisations.connect("globex")
    heard: list[str] = []

    async def hear(delivery: Delivery) -> None:
        if delivery.payload == b"forged":
            heard.append(delivery.subject)

    await hub.subscribe("mcpfed.>", hear, limit=1)
    await hub.flush()
    for node in ("acme", "hub"):
        for template in (REGISTER, PRESENCE, METRICS, SUBMIT, CLAIM):
            await globex.publish(template.of(node), b"forged")
        for template in (CATALOG, SUBMISSION, RULING, REVIEW, AUDIT, CASE, PERFORMANCE):
            await globex.publish(template.of(node, "box.echo"), b"forged")
    await globex.publish(PRESENCE.of("globex"), b"forged")  # which is its own to spoil
    await eventually(lambda: heard)
    assert heard == [PRESENCE.of("globex")]
    assert {tool.node for tool in organisations.mesh.client.discover()} == {"acme", "globex"}


async def test_nobody_reads_what_is_for_another_organisation(organisations: Organisations) -> None:
    globex = await organisations.connect("globex")
    heard: list[str] = []

    async def hear(delivery: Delivery) -> None:
        heard.append(delivery.subject)

    for subject in (">", "_INBOX.>", "_INBOX.acme.>", "_INBOX.*.>", EXECUTE.every(), EXECUTE.every("acme")):
        await globex.subscribe(subject, hear)
    await globex.flush()
    client = await organisations.client("acme")
    assert (await client.execute("box.echo@acme", {"text": "private"})).value == "private"
    await globex.flush()
    assert heard == []


async def test_nobody_touches_the_streams_or_reads_the_submissions_of_others(
    organisations: Organisations,
) -> None:
    globex = await organisations.connect("globex")
    for subject in (
        "$JS.API.STREAM.DELETE.MCPFED_CATALOG",
        "$JS.API.STREAM.PURGE.MCPFED_CATALOG",
        "$JS.API.STREAM.MSG.GET.MCPFED_SUBMISSIONS",
        "$JS.API.DIRECT.GET.MCPFED_SUBMISSIONS",
        "$JS.API.CONSUMER.CREATE.MCPFED_SUBMISSIONS.mine",
        "$JS.API.CONSUMER.DELETE.MCPFED_METRICS.metrics",
    ):
        with pytest.raises(DeadlineExceeded):
            await globex.request(subject, b"{}", timeout=0.05)
    follower = await globex.follow(SUBMISSION_STREAM, _never, subject=SUBMISSION.every("acme"))
    with pytest.raises(DeadlineExceeded):
        await follower.caught_up(0.3)
    await follower.close()
    client = await organisations.client("acme")
    assert (await client.execute("box.echo@globex", {"text": "a"})).value == "a"


async def _never(stored: Stored) -> None:
    raise AssertionError(stored.subject)


@pytest.mark.parametrize(
    ("url", "begins"),
    [
        ("nats://acme:secret@hub:4222", r"_INBOX\.acme\.[0-9a-f]{22}"),
        ("nats://acme:secret@one:4222,nats://other:secret@two:4222", r"_INBOX\.acme\.[0-9a-f]{22}"),
        ("nats://hub:4222", "_INBOX_[0-9a-f]{22}"),
        ("nats://a-secret-token@hub:4222", "_INBOX_[0-9a-f]{22}"),
        ("nats://a.b:secret@hub:4222", "_INBOX_[0-9a-f]{22}"),
        ("nats://>:secret@hub:4222", "_INBOX_[0-9a-f]{22}"),
    ],
)
def test_answers_come_below_the_name_of_the_user(url: str, begins: str) -> None:
    assert re.fullmatch(begins, inbox_prefix(url))
    assert inbox_prefix(url) != inbox_prefix(url)
