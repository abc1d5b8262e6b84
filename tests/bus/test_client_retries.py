"""The client tries again what surely did not run, and what a tool declares harmless to run again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.client import FederationClient, retries
from mcp_federation.client.balancing import Balancer
from mcp_federation.client.retries import MAX_TRIES, MAX_WAITS, Allowance
from mcp_federation.contract.mcp import CallResult
from mcp_federation.contract.messages import Blob, decode, encode
from mcp_federation.contract.subjects import CATALOG_STREAM, EXECUTE, RULING_STREAM, Header
from mcp_federation.errors import (
    BusUnavailable,
    Cancelled,
    Conflict,
    ConnectionLost,
    DeadlineExceeded,
    FederationError,
    InternalError,
    NodeLost,
    NodeUnavailable,
    Overloaded,
    PayloadTooLarge,
    ServerDown,
    ServerUnavailable,
    ToolFailed,
    ToolNotFound,
)
from mcp_federation.trust.approvals import ApprovalVerifier
from tests.conftest import Connect
from tests.support.publishing import Publisher

READ_ONLY = b'{"readOnlyHint":true}'
IDEMPOTENT = b'{"idempotentHint":true}'
FULL = Overloaded("full", {"retry_after_ms": 1})


class Mesh:
    """Nodes that answer with a list of errors, one after another, and with a result after that."""

    def __init__(self, bus: Bus, client: FederationClient, publisher: Callable[[str], Publisher]) -> None:
        self.bus = bus
        self.client = client
        self.publisher = publisher
        self.calls: list[tuple[str, Delivery]] = []

    async def node(self, node: str, *errors: Exception, annotations: bytes | None = None) -> None:
        await self.publisher(node).publish("echo", annotations=annotations)
        state = self.client.catalog.state
        assert await self.client.catalog.wait_until(lambda: state.get(node, "echo") is not None, 10)
        left = list(errors)

        async def respond(delivery: Delivery) -> Reply:
            self.calls.append((node, delivery))
            if left:
                raise left.pop(0)
            return Reply(encode(CallResult(content=[{"type": "text", "text": f"from {node}"}])))

        await self.bus.respond(EXECUTE.every(node), respond)
        await self.bus.flush()

    async def call(self, name: str = "echo@acme", timeout: float = 10) -> Any:
        return (await self.client.execute(name, timeout=timeout)).value

    @property
    def nodes(self) -> list[str]:
        """Which nodes were asked, in order."""
        return [node for node, _ in self.calls]

    @property
    def ids(self) -> list[str]:
        return [delivery.headers[Header.REQUEST_ID] for _, delivery in self.calls]


@pytest.fixture
async def mesh(connect: Connect) -> AsyncIterator[Mesh]:
    bus = await connect()
    await bus.ensure_stream(CATALOG_STREAM)
    await bus.ensure_stream(RULING_STREAM)
    publishers = {node: Publisher(bus, node) for node in ("acme", "globex")}
    verifier = ApprovalVerifier([publisher.approver.public for publisher in publishers.values()])
    catalog = CatalogReplica(await connect(), verifier)
    await catalog.start()
    yield Mesh(
        bus,
        FederationClient(await connect(), catalog, balancer=Balancer(home="acme", explore=0)),
        publishers.__getitem__,
    )
    await catalog.stop()


async def test_an_overloaded_node_is_tried_again_under_the_same_id(mesh: Mesh) -> None:
    await mesh.node("acme", FULL, FULL)
    assert await mesh.call() == "from acme"
    assert mesh.nodes == ["acme"] * 3
    assert len(set(mesh.ids)) == 1


async def test_large_arguments_are_kept_from_one_try_to_the_next_and_no_longer(mesh: Mesh) -> None:
    """The node may be at the first still, and under one id it is the first that runs."""
    await mesh.node("acme", FULL)
    await mesh.client.execute("echo@acme", {"text": "x" * 2_000_000}, timeout=10)
    first, second = (decode(delivery.payload, Blob) for _, delivery in mesh.calls)
    assert first == second
    assert len(mesh.client._attempts._blobs) == 0


async def test_large_arguments_are_kept_for_one_provider_at_a_time(mesh: Mesh) -> None:
    await mesh.node("acme", FULL)
    await mesh.node("globex")
    await mesh.client.execute("echo", {"text": "x" * 2_000_000}, timeout=10)
    assert mesh.nodes == ["acme", "globex"]
    assert len(mesh.client._attempts._blobs) == 0


async def test_another_call_has_another_id(mesh: Mesh) -> None:
    await mesh.node("acme")
    await mesh.call()
    await mesh.call()
    assert len(set(mesh.ids)) == 2


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_jitter", lambda _: 0.0)


@pytest.mark.usefixtures("no_jitter")
async def test_a_node_that_stays_overloaded_is_tried_a_bounded_number_of_times(mesh: Mesh) -> None:
    await mesh.node("acme", *[FULL] * 10)
    with pytest.raises(Overloaded) as caught:
        await mesh.call()
    assert caught.value.details == FULL.details
    assert len(mesh.calls) == MAX_WAITS


@pytest.mark.usefixtures("no_jitter")
async def test_a_node_that_nobody_answers_for_is_tried_less_often_than_one_that_is_full(mesh: Mesh) -> None:
    await mesh.node("acme", *[NodeUnavailable("gone")] * 10)
    with pytest.raises(NodeUnavailable):
        await mesh.call()
    assert len(mesh.calls) == MAX_TRIES


@pytest.mark.usefixtures("no_jitter")
async def test_under_a_lasting_overload_calls_are_tried_once(mesh: Mesh) -> None:
    await mesh.node("acme", *[FULL] * 1000)
    calls = 0
    while len(mesh.calls) < calls + Allowance.FIRST:
        calls += 1
        with pytest.raises(Overloaded):
            await mesh.call()
    assert len(mesh.calls) == calls + Allowance.FIRST
    for _ in range(3):
        calls += 1
        with pytest.raises(Overloaded):
            await mesh.call()
    assert len(mesh.calls) == calls + Allowance.FIRST


@pytest.mark.parametrize("hint", [200, 700])
async def test_a_pause_that_a_node_asks_for_is_kept(mesh: Mesh, hint: int) -> None:
    await mesh.node("acme", Overloaded("full", {"retry_after_ms": hint}))
    began = time.monotonic()
    assert await mesh.call() == "from acme"
    assert time.monotonic() - began >= hint / 1000


@pytest.mark.parametrize("hint", [60_000, 2**63, 1e300])
async def test_a_pause_beyond_the_deadline_is_left_to_the_caller(mesh: Mesh, hint: float) -> None:
    await mesh.node("acme", Overloaded("full", {"retry_after_ms": hint}))
    with pytest.raises(Overloaded):
        await mesh.call()
    assert len(mesh.calls) == 1


@pytest.mark.parametrize("hint", [None, "soon", -5, {}])
async def test_a_hint_that_is_none_asks_for_no_pause(mesh: Mesh, hint: Any) -> None:
    await mesh.node("acme", Overloaded("full", {"retry_after_ms": hint}))
    assert await mesh.call() == "from acme"


async def test_what_the_caller_s_time_does_not_allow_is_not_tried(mesh: Mesh) -> None:
    await mesh.node("acme", Overloaded("full", {"retry_after_ms": 400}))
    with pytest.raises(Overloaded):
        await mesh.call(timeout=0.3)
    assert len(mesh.calls) == 1


async def test_every_try_has_what_is_left_of_the_time(mesh: Mesh) -> None:
    await mesh.node("acme", Overloaded("full", {"retry_after_ms": 100}))
    await mesh.call(timeout=5)
    first, second = (int(delivery.headers[Header.TIMEOUT_MS]) for _, delivery in mesh.calls)
    assert second <= first - 100 <= 4900


async def test_a_dead_node_is_told_in_under_a_second(mesh: Mesh) -> None:
    await mesh.publisher("acme").publish("echo")
    state = mesh.client.catalog.state
    assert await mesh.client.catalog.wait_until(lambda: state.get("acme", "echo") is not None, 10)
    began = time.monotonic()
    with pytest.raises(NodeUnavailable, match="acme"):
        await mesh.call(timeout=30)
    assert time.monotonic() - began < 1


async def test_a_node_that_comes_back_between_two_tries_is_found(mesh: Mesh) -> None:
    await mesh.node("acme", NodeUnavailable("restarting"))
    assert await mesh.call() == "from acme"


async def test_every_provider_is_asked_before_one_is_asked_again(mesh: Mesh) -> None:
    await mesh.node("acme", FULL, FULL)
    await mesh.node("globex", FULL)
    assert await mesh.call("echo") == "from globex"
    assert mesh.nodes == ["acme", "globex", "acme", "globex"]
    assert mesh.ids[0] == mesh.ids[2] != mesh.ids[1] == mesh.ids[3]


@pytest.mark.parametrize("annotations", [READ_ONLY, IDEMPOTENT])
async def test_a_harmless_tool_is_tried_again_when_it_may_have_run(mesh: Mesh, annotations: bytes) -> None:
    await mesh.node("acme", ServerUnavailable("it went away"), annotations=annotations)
    assert await mesh.call() == "from acme"
    # An outcome, which the node would give again under the same id.
    assert len(set(mesh.ids)) == 2


async def test_any_tool_goes_on_to_the_next_provider_of_a_server_that_is_down(mesh: Mesh) -> None:
    await mesh.node("acme", ServerDown("it is started anew"))
    await mesh.node("globex")
    assert await mesh.call("echo") == "from globex"
    assert mesh.nodes == ["acme", "globex"]


async def test_after_a_lost_connection_the_same_id_is_asked_for_again(mesh: Mesh) -> None:
    await mesh.node("acme", ConnectionLost("gone"), BusUnavailable("down"), annotations=IDEMPOTENT)
    assert await mesh.call() == "from acme"
    assert (len(mesh.ids), len(set(mesh.ids))) == (3, 1)


async def test_a_harmless_tool_goes_on_to_the_next_provider(mesh: Mesh) -> None:
    await mesh.node("acme", ServerUnavailable("it went away"), annotations=READ_ONLY)
    await mesh.node("globex", annotations=READ_ONLY)
    assert await mesh.call("echo") == "from globex"


@pytest.mark.parametrize("death", [ServerUnavailable, NodeLost])
async def test_a_call_that_servers_die_of_takes_down_no_more_than_two(
    mesh: Mesh, death: type[FederationError]
) -> None:
    for node in ("acme", "globex"):
        await mesh.node(node, *[death("it went away")] * 9, annotations=READ_ONLY)
    with pytest.raises(death):
        await mesh.call("echo")
    assert mesh.nodes == ["acme", "globex"]
    with pytest.raises(death):
        await mesh.call("echo@acme")
    assert mesh.nodes[2:] == ["acme", "acme"]


async def test_what_surely_did_not_run_counts_for_no_death(mesh: Mesh) -> None:
    await mesh.node("acme", ServerUnavailable("gone"), ServerDown("starting"), annotations=READ_ONLY)
    assert await mesh.call() == "from acme"


@pytest.mark.usefixtures("no_jitter")
@pytest.mark.parametrize("later", [(FULL,) * (MAX_WAITS - 1), (ToolNotFound("withdrawn"),)])
async def test_what_may_have_run_is_never_told_as_what_did_not(
    mesh: Mesh, later: tuple[FederationError, ...]
) -> None:
    await mesh.node("acme", ServerUnavailable("gone"), *later, annotations=IDEMPOTENT)
    with pytest.raises(ServerUnavailable):
        await mesh.call()
    assert len(mesh.calls) == 1 + len(later)


async def test_a_later_outcome_comes_before_an_earlier_doubt(mesh: Mesh) -> None:
    await mesh.node("acme", ServerUnavailable("gone"), ToolFailed("no paper"), annotations=IDEMPOTENT)
    with pytest.raises(ToolFailed):
        await mesh.call()


HARMFUL = (
    None,
    b"{}",
    b'{"destructiveHint":true,"idempotentHint":false,"readOnlyHint":false}',
    b'{"idempotentHint":"true","readOnlyHint":1}',
    b'["idempotentHint"]',
)


@pytest.mark.parametrize("annotations", HARMFUL)
@pytest.mark.parametrize("error", [ConnectionLost("gone"), ServerUnavailable("gone")])
async def test_any_other_tool_is_not_tried_again_when_it_may_have_run(
    mesh: Mesh, error: FederationError, annotations: bytes | None
) -> None:
    await mesh.node("acme", error, annotations=annotations)
    await mesh.node("globex", annotations=annotations)
    with pytest.raises(type(error)):
        await mesh.call("echo")
    assert mesh.nodes == ["acme"]


FINAL = (BusUnavailable, Cancelled, Conflict, DeadlineExceeded, InternalError, PayloadTooLarge, ToolFailed)


@pytest.mark.parametrize("error", FINAL)
async def test_an_outcome_is_final_even_of_a_harmless_tool(mesh: Mesh, error: type[FederationError]) -> None:
    await mesh.node("acme", error("no"), annotations=READ_ONLY)
    with pytest.raises(error):
        await mesh.call()
    assert len(mesh.calls) == 1


async def test_cancelling_between_two_tries_ends_the_call(mesh: Mesh) -> None:
    asked = asyncio.Event()

    async def full(_: Delivery) -> Reply:
        asked.set()
        raise Overloaded("full", {"retry_after_ms": 500})

    await mesh.publisher("acme").publish("echo")
    state = mesh.client.catalog.state
    assert await mesh.client.catalog.wait_until(lambda: state.get("acme", "echo") is not None, 10)
    await mesh.bus.respond(EXECUTE.every("acme"), full)
    await mesh.bus.flush()
    call = asyncio.create_task(mesh.call())
    async with asyncio.timeout(5):
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
