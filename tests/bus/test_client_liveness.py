"""The client looks after its calls: what died with one ends it, and what hangs with one is gone round."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from mcp_federation.bus.protocol import Delivery, Reply, Subscription
from mcp_federation.client import liveness
from mcp_federation.contract.mcp import CallResult
from mcp_federation.contract.messages import Cancel, Message, Running, decode, encode
from mcp_federation.contract.subjects import (
    CANCEL,
    EXECUTE,
    Header,
    instance_ping,
)
from mcp_federation.errors import (
    NodeLost,
)
from tests.conftest import Connect
from tests.support.client_mesh import Mesh, client_mesh
from tests.support.waiting import eventually


@pytest.fixture
async def mesh(connect: Connect) -> AsyncIterator[Mesh]:
    async with client_mesh(connect) as mesh:
        yield mesh


class Holding:
    """A node that takes a call and never answers; its instances answer pings as a test says."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.taken = asyncio.Event()
        self.pings = asyncio.Event()
        self.reply: str | None = None
        self.hanging: set[str] = set()
        self.pinged_in_vain = asyncio.Event()

    async def start(self, *instances: str, **annotations: bool) -> "asyncio.Task[CallResult]":
        """Publish the tool, hear of those instances, and begin a call that the node takes."""
        await self.mesh.publish("globex", "echo", annotations=msgspec.json.encode(annotations))
        for instance in instances:
            await self.mesh.publishers["globex"].presence(instance=instance)
        state = self.mesh.client.catalog.state
        heard = await self.mesh.client.catalog.wait_until(lambda: state.instances("globex") == instances, 10)
        assert heard
        await self.mesh.bus.respond(EXECUTE.every("globex"), self._hold)
        await self.mesh.bus.flush()
        call = asyncio.create_task(self.mesh.client.execute("echo@globex", timeout=60))
        await asyncio.wait_for(self.taken.wait(), 10)
        return call

    async def answer_pings_of(self, instance: str) -> Subscription:
        async def ping(_: Delivery) -> Reply | None:
            if instance in self.hanging:
                self.pinged_in_vain.set()
                return None
            self.pings.set()
            return Reply(b"{}")

        return await self.mesh.bus.respond(instance_ping(instance), ping)

    async def tell(self, message: Message, kind: str) -> None:
        """Send an interim message to the caller."""
        assert self.reply is not None
        await self.mesh.bus.publish(self.reply, encode(message), {Header.INTERIM: kind})

    async def _hold(self, delivery: Delivery) -> Reply | None:
        self.reply = delivery.reply
        self.taken.set()
        return None


async def test_a_call_to_a_node_that_dies_with_it_ends_soon_and_may_have_run(mesh: Mesh) -> None:
    call = await Holding(mesh).start("one")
    with pytest.raises(NodeLost) as lost:
        await asyncio.wait_for(call, 5)
    assert (lost.value.status, lost.value.ran) == (503, None)
    assert not mesh.client.catalog.state.is_available("globex")


async def test_a_call_is_waited_for_while_any_instance_is_there(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "INTERVAL", 0.01)
    holding = Holding(mesh)
    there = await holding.answer_pings_of("two")
    call = await holding.start("one", "two")
    await holding.tell(Running(instance="two"), "running")
    for _ in range(2 * liveness.PATIENCE):
        holding.pings.clear()
        await asyncio.wait_for(holding.pings.wait(), 10)
    assert not call.done()
    await there.close()
    with pytest.raises(NodeLost):
        await asyncio.wait_for(call, 10)


@pytest.mark.parametrize("told", [True, False])
async def test_a_call_ends_with_the_instance_that_has_it_though_others_are_there(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    monkeypatch.setattr(liveness, "INTERVAL", 0.01)
    holding = Holding(mesh)
    await holding.answer_pings_of("two")
    call = await holding.start("one", "two")
    if told:
        await holding.tell(Running(instance="one"), "running")
    with pytest.raises(NodeLost):
        await asyncio.wait_for(call, 10)
    assert mesh.client.catalog.state.is_available("globex")


async def test_a_caller_that_has_heard_of_no_instance_notices_that_the_one_which_has_its_call_is_gone(
    mesh: Mesh,
) -> None:
    holding = Holding(mesh)
    call = await holding.start()
    await holding.tell(Running(instance="one"), "running")
    with pytest.raises(NodeLost):
        await asyncio.wait_for(call, 10)


class Hanging(Holding):
    """The same node, where `one` takes messages and does nothing; what comes a second time is answered."""

    def __init__(self, mesh: Mesh, answers_from: int = 2, hangs_next: str = "") -> None:
        super().__init__(mesh)
        self._hangs_next = hangs_next
        self.ids: list[str] = []
        self.replies: list[str | None] = []
        self.cancelled: list[str] = []
        self._answers_from = answers_from

    async def start(self, *instances: str, **annotations: bool) -> "asyncio.Task[CallResult]":
        self.hanging.add("one")
        await self.answer_pings_of("one")
        await self.mesh.bus.subscribe(CANCEL.of("globex"), self._cancel)
        return await super().start(*instances, **annotations)

    async def pinged(self, times: int) -> None:
        for _ in range(times):
            self.pings.clear()
            await asyncio.wait_for(self.pings.wait(), 10)

    async def _cancel(self, delivery: Delivery) -> None:
        self.cancelled.append(decode(delivery.payload, Cancel).request_id)

    async def _hold(self, delivery: Delivery) -> Reply | None:
        self.ids.append(delivery.headers[Header.REQUEST_ID])
        self.replies.append(delivery.reply)
        await super()._hold(delivery)
        if len(self.ids) == 2 and self._hangs_next:
            self.hanging.add(self._hangs_next)
        if len(self.ids) < self._answers_from:
            return None
        return Reply(encode(CallResult(content=[{"type": "text", "text": "from the other"}])))


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "INTERVAL", 0.01)
    monkeypatch.setattr(liveness, "PING_TIMEOUT", 0.05)


async def test_a_ping_that_is_under_way_as_the_node_dies_holds_nothing_up(mesh: Mesh) -> None:
    hanging = Hanging(mesh)
    hanging.hanging.add("two")
    dies = await hanging.answer_pings_of("two")
    call = await hanging.start("two")
    await eventually(hanging.pinged_in_vain.is_set)
    await dies.close()
    with pytest.raises(NodeLost):
        await asyncio.wait_for(call, 1.5)


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(("told", "asked"), [(False, 2), (True, 2), (False, 4)])
async def test_a_harmless_call_that_an_instance_hangs_with_is_done_by_another(
    mesh: Mesh, told: bool, asked: int
) -> None:
    hanging = Hanging(mesh, answers_from=asked)
    await hanging.answer_pings_of("two")
    call = await hanging.start("one", "two", idempotentHint=True)
    if told:
        await hanging.tell(Running(instance="one"), "running")
    assert (await asyncio.wait_for(call, 10)).text == "from the other"
    assert hanging.ids == hanging.ids[:1] * asked
    await eventually(lambda: set(hanging.cancelled) == set(hanging.ids))


@pytest.mark.usefixtures("quick_looks")
async def test_a_call_that_nobody_has_told_to_have_is_done_by_who_is_heard_of(mesh: Mesh) -> None:
    hanging = Hanging(mesh)
    await hanging.answer_pings_of("two")
    call = await hanging.start("two", readOnlyHint=True)
    assert (await asyncio.wait_for(call, 10)).text == "from the other"


@pytest.mark.usefixtures("quick_looks")
async def test_what_hung_may_still_answer_first(mesh: Mesh) -> None:
    hanging = Hanging(mesh, answers_from=9)
    await hanging.answer_pings_of("two")
    call = await hanging.start("one", "two", readOnlyHint=True)
    await eventually(lambda: len(hanging.ids) == 2)
    first = hanging.replies[0]
    assert first is not None
    await mesh.bus.publish(first, encode(CallResult(content=[{"type": "text", "text": "awake"}])))
    assert (await asyncio.wait_for(call, 10)).text == "awake"


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(
    ("hints", "holder"),
    [
        ({}, None),  # it may not be run twice
        ({"readOnlyHint": True}, "two"),  # who has it is there
    ],
)
async def test_a_call_is_not_asked_for_again_without_need(
    mesh: Mesh, hints: dict[str, bool], holder: str | None
) -> None:
    hanging = Hanging(mesh)
    await hanging.answer_pings_of("two")
    call = await hanging.start("one", "two", **hints)
    if holder is not None:
        await hanging.tell(Running(instance=holder), "running")
    await hanging.pinged(3 * liveness.PATIENCE)
    assert len(hanging.ids) == 1
    call.cancel()


@pytest.mark.usefixtures("quick_looks")
async def test_a_call_that_instances_hang_of_goes_to_no_third(mesh: Mesh) -> None:
    hanging = Hanging(mesh, answers_from=9, hangs_next="two")
    await hanging.answer_pings_of("two")
    await hanging.answer_pings_of("three")
    call = await hanging.start("one", "two", "three", readOnlyHint=True)
    await eventually(lambda: len(hanging.ids) == 2)
    await hanging.pinged(3 * liveness.PATIENCE)
    assert len(hanging.ids) == 2
    call.cancel()
