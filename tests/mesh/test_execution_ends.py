"""Execution from one end to the other: REST and Python callers, and tools on servers of every kind."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from mcp_federation.bus.nats import NatsBus
from mcp_federation.client import FederationClient
from mcp_federation.contract.mcp import CallParams
from mcp_federation.contract.messages import Progress, encode
from mcp_federation.contract.subjects import EXECUTE
from mcp_federation.errors import FederationError, PayloadTooLarge
from tests.support.nats_server import NatsServer, temporary_folder
from tests.support.processes import Process, Processes, free_port, listens, published
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

LIMIT = 64 * 1024 * 1024
KINDS = ("ledger", "stdio", "http")
"""The ledger in the node's own process, over stdio, and over streamable HTTP."""

STEPS = 60
IN_FLIGHT = 8
AROUND = 200
"""Bytes of a result around its text, at most."""


@dataclass
class Ends:
    """A node with the ledger on servers of every kind and an edge before it."""

    mesh: Processes
    node: Process
    http: Process
    http_port: int
    edge_url: str
    sessions_url: str


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    folder = temporary_folder()
    with Processes(folder, NatsServer(folder)) as mesh:
        mesh.governance()
        http_port, sessions_port = free_port(), free_port()
        http = mesh.http_ledger("http", http_port)
        sessions = [sys.executable, "-m", "tests.support.session_server", str(sessions_port)]
        mesh.start("sessions", sessions)
        servers = {
            "stdio": mesh.stdio_ledger(),
            "http": {"url": f"http://127.0.0.1:{http_port}/mcp"},
            "sessions": {"url": f"http://127.0.0.1:{sessions_port}/mcp"},
        }
        node = mesh.node("acme", servers=servers, toolbox=True, max_in_flight=IN_FLIGHT)
        yield Ends(mesh, node, http, http_port, mesh.edge("acme"), f"http://127.0.0.1:{sessions_port}")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def client(ends: Ends) -> AsyncIterator[FederationClient]:
    async with ends.mesh.client() as client:
        await published(client, "sessions.echo@acme", *(f"{kind}.echo@acme" for kind in KINDS))
        yield client


@pytest.fixture
async def rest(ends: Ends, client: FederationClient) -> AsyncIterator[aiohttp.ClientSession]:
    """A REST caller of an edge that is ready."""
    async with aiohttp.ClientSession(ends.edge_url) as session:

        async def is_ready() -> bool:
            with suppress(aiohttp.ClientError):
                async with session.get("/readyz") as answer:
                    return answer.status == 200
            return False

        await eventually(is_ready, 30)
        yield session


def body(name: str, **arguments: Any) -> dict[str, Any]:
    return {"mcp_name": name, "args": [], "kwargs": arguments}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_python_caller_is_told_every_step_in_order(client: FederationClient, kind: str) -> None:
    steps: list[Progress] = []
    result = await client.execute(f"{kind}.climb@acme", {"steps": STEPS}, on_progress=steps.append)
    assert result.value == str(STEPS)
    assert [(step.progress, step.total, step.message) for step in steps] == [
        (number, STEPS, f"step {number}") for number in range(1, STEPS + 1)
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rest_caller_is_told_every_step_in_order_and_the_result_at_last(
    rest: aiohttp.ClientSession, kind: str
) -> None:
    headers = {"Accept": "text/event-stream"}
    call = body(f"{kind}.climb@acme", steps=STEPS)
    async with rest.post("/execute", json=call, headers=headers) as answer:
        text = await answer.text()
    events = [event.split("\n") for event in text.removesuffix("\n\n").split("\n\n")]
    named = [
        (lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in events
    ]
    *steps, (last, result) = named
    assert (last, result["result"]) == ("result", str(STEPS))
    assert [name for name, _ in steps] == ["progress"] * STEPS
    assert [step["progress"] for _, step in steps] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rest_caller_that_hangs_up_is_noticed_by_the_tool_and_frees_its_place(
    ends: Ends, client: FederationClient, rest: aiohttp.ClientSession, kind: str
) -> None:
    call = f"hung up on {kind}"
    request = asyncio.create_task(rest.post("/execute", json=body(f"{kind}.hold@acme", call=call)))
    await eventually(lambda: ends.mesh.ledger.count("hold")[call])
    request.cancel()
    with suppress(asyncio.CancelledError):
        await request
    await eventually(lambda: ends.mesh.ledger.count("cancelled")[call])
    presences = client.catalog.state.node("acme").instances
    await eventually(lambda: all(presence.in_flight == 0 for presence in presences.values()))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deadline_is_kept_and_the_tool_notices(
    ends: Ends, rest: aiohttp.ClientSession, kind: str
) -> None:
    call = f"late on {kind}"
    late = {**body(f"{kind}.hold@acme", call=call), "timeout": 0.3}
    async with rest.post("/execute", json=late) as answer:
        assert answer.status == 504
        assert (await answer.json())["code"] == "deadline_exceeded"
    await eventually(lambda: ends.mesh.ledger.count("cancelled")[call])


async def test_a_rest_caller_of_a_full_node_is_told_at_once_when_to_come_again(
    ends: Ends, client: FederationClient, rest: aiohttp.ClientSession
) -> None:
    async def call(name: str) -> tuple[str, int, str | None]:
        async with rest.post("/execute", json=body("ledger.charge@acme", call=name, seconds=1.5)) as answer:
            return name, answer.status, answer.headers.get("Retry-After")

    answers = await asyncio.gather(*(call(f"full {number}") for number in range(60)))
    assert {status for _, status, _ in answers} == {200, 429}
    done = [name for name, status, _ in answers if status == 200]
    assert len(done) >= IN_FLIGHT
    assert all(int(retry_after or 0) >= 1 for _, status, retry_after in answers if status == 429)
    ran = ends.mesh.ledger.count("charge")
    assert dict.fromkeys(done, 1) == {name: ran[name] for name, _, _ in answers if ran[name]}


def padded(name: str, size: int) -> str:
    """A text that makes the params of a call of a tool so many bytes long."""
    return "x" * (size - len(encode(CallParams(name=name, arguments={"text": ""}))))


@pytest.mark.parametrize("kind", KINDS)
async def test_64_mib_go_there_and_come_back(client: FederationClient, kind: str) -> None:
    text = "x" * (LIMIT - AROUND)
    result = await client.execute(f"{kind}.echo@acme", {"text": text}, timeout=60)
    assert result.text == text


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_payload_takes_a_node_no_more_than_about_three_times_its_size(
    ends: Ends, client: FederationClient, kind: str
) -> None:
    before = ends.node.memory()
    ends.node.forget_peak_memory()
    await client.execute(f"{kind}.length@acme", {"text": "x" * (LIMIT - AROUND)}, timeout=60)
    await client.execute(f"{kind}.fill@acme", {"size": LIMIT - AROUND}, timeout=60)
    assert ends.node.memory("VmHWM") - before < 3.5 * LIMIT


async def test_64_mib_go_there_and_come_back_over_rest(rest: aiohttp.ClientSession) -> None:
    text = "x" * (LIMIT - AROUND)
    payload = BytesIO(json.dumps(body("ledger.echo@acme", text=text)).encode())
    headers = {"Content-Type": "application/json"}
    async with rest.post("/execute", data=payload, headers=headers) as answer:
        assert answer.status == 200
        assert (await answer.json())["result"] == text


async def test_arguments_of_one_byte_more_are_refused_and_nothing_runs(client: FederationClient) -> None:
    text = padded("ledger.length", LIMIT)
    result = await client.execute("ledger.length@acme", {"text": text}, timeout=60)
    assert result.value == str(len(text))
    with pytest.raises(PayloadTooLarge) as refused:
        await client.execute("ledger.length@acme", {"text": text + "x"})
    assert refused.value.details == {"size": LIMIT + 1, "limit": LIMIT}


async def test_a_rest_caller_with_too_much_is_told_so(rest: aiohttp.ClientSession) -> None:
    payload = BytesIO(json.dumps(body("ledger.length@acme", text="x" * LIMIT)).encode())
    headers = {"Content-Type": "application/json"}
    async with rest.post("/execute", data=payload, headers=headers) as answer:
        assert answer.status == 413
        assert (await answer.json())["code"] == "payload_too_large"
    async with rest.post("/execute", json=body("ledger.fill@acme", size=LIMIT)) as answer:
        assert answer.status == 413
        assert (await answer.json())["code"] == "payload_too_large"


async def test_a_result_of_one_byte_more_is_told_so(ends: Ends, client: FederationClient) -> None:
    async with await NatsBus.connect(ends.mesh.nats.url) as bus:
        payload = encode(CallParams(name="ledger.fill", arguments={"size": 0}))
        empty = await bus.request(EXECUTE.of("acme", "ledger.fill"), payload, timeout=10)
    size = LIMIT - len(empty.payload)
    result = await client.execute("ledger.fill@acme", {"size": size}, timeout=60)
    assert len(result.text) == size
    with pytest.raises(PayloadTooLarge) as refused:
        await client.execute("ledger.fill@acme", {"size": size + 1}, timeout=60)
    assert refused.value.details["limit"] == LIMIT


async def test_a_server_that_forgot_every_session_is_met_anew_by_the_next_call(
    ends: Ends, client: FederationClient
) -> None:
    assert (await client.execute("sessions.echo@acme", {"text": "before"})).value == "before"
    async with aiohttp.ClientSession() as session, session.post(f"{ends.sessions_url}/forget"):
        pass
    assert (await client.execute("sessions.echo@acme", {"text": "after"})).value == "after"


async def test_a_server_that_was_started_again_answers_the_next_call(
    ends: Ends, client: FederationClient
) -> None:
    assert (await client.execute("http.echo@acme", {"text": "before"})).value == "before"
    ends.http.kill()
    with pytest.raises(FederationError):
        await client.execute("http.charge@acme", {"call": "while it is away"})
    ends.http.start()
    await eventually(lambda: listens(ends.http_port), 30)
    assert (await client.execute("http.echo@acme", {"text": "after"})).value == "after"
    assert ends.mesh.ledger.count("charge")["while it is away"] == 0
