"""What execution promises, kept by whole processes: replicas that are killed, stopped and held up."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial

import pytest

from mcp_federation.bus.nats import NatsBus
from mcp_federation.client import FederationClient
from mcp_federation.contract.mcp import CallParams, decode_result
from mcp_federation.contract.messages import ErrorReply, decode, encode
from mcp_federation.contract.subjects import EXECUTE, Header
from mcp_federation.errors import DeadlineExceeded, NodeLost
from tests.support.nats_server import NatsServer, temporary_folder
from tests.support.processes import Process, Processes, instances, published
from tests.support.waiting import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

CHARGE, PUT, HOLD = "ledger.charge@acme", "ledger.put@acme", "ledger.hold@acme"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Processes]:
    """Governance, and two replicas of a node with the ledger in their own processes."""
    folder = temporary_folder()
    with Processes(folder, NatsServer(folder)) as mesh:
        mesh.governance()
        yield mesh
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def replicas(mesh: Processes) -> list[Process]:
    servers = {"stdio": mesh.stdio_ledger()}
    return [mesh.node("acme", replica, servers=servers, toolbox=True) for replica in "ab"]


@pytest.fixture
async def client(mesh: Processes, replicas: list[Process]) -> AsyncIterator[FederationClient]:
    """A client that knows both replicas."""
    for replica in replicas:
        if not replica.alive:
            replica.start()
    async with mesh.client() as client:
        await published(client, "ledger.charge@acme", "stdio.charge@acme")
        await instances(client, "acme", 2)
        yield client


async def deliver(mesh: Processes, tool: str, arguments: dict[str, object], **headers: str) -> bytes:
    """What a node answers to a request as it is on the wire."""
    names = {"request_id": Header.REQUEST_ID, "timeout_ms": Header.TIMEOUT_MS}
    async with await NatsBus.connect(mesh.nats.url) as bus:
        payload = encode(CallParams(name=tool, arguments=dict(arguments)))
        wire = {names[name]: value for name, value in headers.items()}
        return (await bus.request(EXECUTE.of("acme", tool), payload, timeout=20, headers=wire)).payload


async def where(client: FederationClient) -> int:
    """The process that answers."""
    return int((await client.execute("ledger.process@acme")).value)


async def test_a_repeated_delivery_gets_the_first_outcome_and_runs_nothing(
    mesh: Processes, replicas: list[Process], client: FederationClient
) -> None:
    await replicas[1].stop()
    await instances(client, "acme", 1)
    call = {"call": "delivered", "seconds": 0.2}
    answers = await asyncio.gather(
        *(deliver(mesh, "ledger.charge", call, request_id="delivered") for _ in range(5))
    )
    later = await deliver(mesh, "ledger.charge", call, request_id="delivered")
    assert {decode_result(answer).text for answer in [*answers, later]} == {"delivered"}
    assert mesh.ledger.count("charge")["delivered"] == 1


async def test_a_caller_that_gives_up_is_noticed_by_the_tool(
    mesh: Processes, client: FederationClient
) -> None:
    call = asyncio.create_task(client.execute(HOLD, {"call": "given up"}))
    await eventually(lambda: mesh.ledger.count("hold")["given up"])
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    await eventually(lambda: mesh.ledger.count("cancelled")["given up"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_command_that_a_signal_ends_cancels_its_call_and_says_which_it_was(
    mesh: Processes, client: FederationClient, number: signal.Signals
) -> None:
    call = f"ended by {number.name}"
    flags = ["--nats", mesh.nats.url, "--trust", str(mesh.key_file)]
    command = mesh.service(number.name, "call", HOLD, f"call={call}", *flags)
    await eventually(lambda: mesh.ledger.count("hold")[call])
    command.signal(number)
    assert await asyncio.to_thread(command.wait) == 128 + number
    await eventually(lambda: mesh.ledger.count("cancelled")[call])


async def test_the_node_keeps_the_deadline_and_the_tool_notices(
    mesh: Processes, client: FederationClient
) -> None:
    answer = await deliver(mesh, "ledger.hold", {"call": "late"}, timeout_ms="200")
    assert decode(answer, ErrorReply).code == DeadlineExceeded.code
    await eventually(lambda: mesh.ledger.count("cancelled")["late"])


async def test_the_caller_keeps_the_deadline_when_the_node_does_not_and_nothing_runs_later(
    mesh: Processes, replicas: list[Process], client: FederationClient
) -> None:
    for replica in replicas:
        replica.signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(DeadlineExceeded):
            await client.execute(CHARGE, {"call": "held up"}, timeout=0.3)
    finally:
        for replica in replicas:
            replica.signal(signal.SIGCONT)
    assert time.monotonic() - began < 10
    # Requests on a subject come in order: these are behind the one that was given up.
    for number in range(20):
        await client.execute(CHARGE, {"call": f"after {number}"})
    assert mesh.ledger.count("charge")["held up"] == 0


async def test_what_may_run_twice_waits_for_no_replica_that_hangs_and_is_not_run_when_it_wakes(
    replicas: list[Process], client: FederationClient, mesh: Processes
) -> None:
    names = [f"hung {number}" for number in range(24)]
    replicas[0].signal(signal.SIGSTOP)
    try:
        calls = (client.execute(PUT, {"call": name}, timeout=30) for name in names)
        assert [result.value for result in await asyncio.gather(*calls)] == names
    finally:
        replicas[0].signal(signal.SIGCONT)
    await instances(client, "acme", 2)
    for number in range(20):
        await client.execute(CHARGE, {"call": f"awake {number}"})
    ran = mesh.ledger.count("put")
    assert {name: ran[name] for name in names} == dict.fromkeys(names, 1)


async def test_what_runs_on_a_replica_that_is_killed_is_told_and_the_other_goes_on(
    mesh: Processes, replicas: list[Process], client: FederationClient
) -> None:
    names = [f"struck {number}" for number in range(8)]
    calls = [
        asyncio.create_task(client.execute(CHARGE, {"call": name, "seconds": 3}, timeout=60))
        for name in names
    ]
    await eventually(lambda: set(names) <= set(mesh.ledger.count("charge")))
    began = time.monotonic()
    replicas[0].kill()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    lost = [outcome for outcome in outcomes if isinstance(outcome, NodeLost)]
    done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(lost) + len(done) == len(names), outcomes
    assert lost, "eight calls, and none of them there"
    assert done, "eight calls, and all of them there"
    assert time.monotonic() - began < 30, "long before their deadline"
    assert set(mesh.ledger.count("charge").values()) == {1}
    assert (await client.execute(CHARGE, {"call": "after the stroke"})).value == "after the stroke"


async def test_what_may_run_twice_is_done_by_the_replica_that_is_left(
    mesh: Processes, replicas: list[Process], client: FederationClient
) -> None:
    names = [f"repeated {number}" for number in range(8)]
    calls = [
        asyncio.create_task(client.execute(PUT, {"call": name, "seconds": 2}, timeout=60)) for name in names
    ]
    await eventually(lambda: set(names) <= set(mesh.ledger.count("put")))
    replicas[1].kill()
    assert [result.value for result in await asyncio.gather(*calls)] == names


def more_than(items: list[str], number: int) -> bool:
    return len(items) > number


async def test_a_rolling_restart_under_load_loses_no_call(
    mesh: Processes, replicas: list[Process], client: FederationClient
) -> None:
    over = asyncio.Event()
    answered: list[str] = []

    async def caller(number: int) -> None:
        count = 0
        while not over.is_set():
            call = f"rolling {number}-{count}"
            name = ("ledger.charge@acme", "stdio.charge@acme", "stdio.charge")[count % 3]
            assert (await client.execute(name, {"call": call, "seconds": 0.01})).value == call
            answered.append(call)
            count += 1

    async with asyncio.TaskGroup() as callers:
        for number in range(12):
            callers.create_task(caller(number))
        try:
            for replica in replicas:
                before = len(answered)
                assert await replica.stop() == 0
                await instances(client, "acme", 1)
                replica.start()
                await instances(client, "acme", 2)
                await eventually(partial(more_than, answered, before + 100), 30)
        finally:
            over.set()
    ran = mesh.ledger.count("charge")
    assert all(ran[call] == 1 for call in answered)


async def test_a_node_that_is_stopped_finishes_what_it_has_and_ends_well(
    mesh: Processes, replicas: list[Process], client: FederationClient
) -> None:
    await replicas[1].stop()
    await instances(client, "acme", 1)
    call = asyncio.create_task(client.execute(CHARGE, {"call": "finished", "seconds": 1}))
    await eventually(lambda: mesh.ledger.count("charge")["finished"])
    assert await replicas[0].stop() == 0
    assert (await call).value == "finished"
    assert await client.catalog.wait_until(lambda: not client.catalog.state.is_available("acme"), 5)
