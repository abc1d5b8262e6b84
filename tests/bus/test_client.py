"""The client: finds the tool that a name means, calls it, and goes on to the next while nothing ran."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from mcp_federation.bus.protocol import Delivery, Reply
from mcp_federation.client import FederationClient
from mcp_federation.client.retries import new_request_id
from mcp_federation.contract.mcp import CallResult, decode_params
from mcp_federation.contract.messages import Cancel, Progress, decode, encode
from mcp_federation.contract.subjects import (
    CANCEL,
    EXECUTE,
    Header,
)
from mcp_federation.errors import (
    BusUnavailable,
    DeadlineExceeded,
    InternalError,
    InvalidArguments,
    NodeUnavailable,
    NotExecutable,
    Overloaded,
    ToolFailed,
    ToolNotFound,
)
from tests.conftest import Connect
from tests.support.client_mesh import NODES, Mesh, client_mesh


@pytest.fixture
async def mesh(connect: Connect) -> AsyncIterator[Mesh]:
    async with client_mesh(connect) as mesh:
        yield mesh


async def test_a_federated_name_reaches_that_node_s_tool(mesh: Mesh) -> None:
    for node in NODES:
        await mesh.publish(node, "echo")
        await mesh.serve(node)
    result = await mesh.client.execute("echo@globex", {"text": "hé"}, timeout=5)
    assert result.value == "from globex"
    (call,) = mesh.calls
    assert decode_params(call.payload).arguments == {"text": "hé"}
    assert 0 < int(call.headers[Header.TIMEOUT_MS]) <= 5000
    assert UUID(call.headers[Header.REQUEST_ID]).version == 7


async def test_a_plain_name_prefers_the_home_node_and_an_available_one_before_it(mesh: Mesh) -> None:
    for node in NODES:
        await mesh.publish(node, "echo")
        await mesh.serve(node)
    assert (await mesh.client.execute("echo")).value == "from acme"
    mesh.client.catalog.note_unavailable("acme")
    assert (await mesh.client.execute("echo")).value == "from globex"
    assert [tool.node for tool in mesh.client.candidates("echo")] == ["globex", "acme"]


@pytest.mark.parametrize("refusal", [None, Overloaded("full")])
async def test_a_plain_name_goes_on_to_the_next_provider_while_nothing_ran(
    mesh: Mesh, refusal: Exception | None
) -> None:
    for node in NODES:
        await mesh.publish(node, "echo")
    if refusal is not None:
        await mesh.serve("acme", refusal)
    await mesh.serve("globex")
    assert (await mesh.client.execute("echo")).value == "from globex"


async def test_without_a_bus_no_node_is_blamed_and_others_have_their_turn(
    mesh: Mesh, connect: Connect
) -> None:
    await mesh.publish("acme", "echo")
    bus = await connect()
    client = FederationClient(bus, mesh.client.catalog)
    await bus.close()
    mesh.client.catalog.note_unavailable("acme")
    turn = asyncio.Event()
    asyncio.get_running_loop().call_soon(turn.set)
    with pytest.raises(BusUnavailable):
        await client.execute("echo@acme")
    assert turn.is_set()


async def test_it_does_not_go_on_when_the_tool_may_have_run(mesh: Mesh) -> None:
    for node in NODES:
        await mesh.publish(node, "echo")
    await mesh.serve("acme", DeadlineExceeded("late"))
    await mesh.serve("globex")
    with pytest.raises(DeadlineExceeded):
        await mesh.client.execute("echo")
    assert len(mesh.calls) == 1


async def test_a_node_that_is_gone_is_said_at_once_and_marked(mesh: Mesh) -> None:
    await mesh.publish("globex", "echo")
    with pytest.raises(NodeUnavailable, match="globex"):
        await mesh.client.execute("echo@globex", timeout=30)
    assert not mesh.client.catalog.state.is_available("globex")


async def test_unknown_and_described_only_tools_are_clear_errors(mesh: Mesh) -> None:
    await mesh.publish("acme", "leaflet", execute_subject=None)
    with pytest.raises(NotExecutable):
        await mesh.client.execute("leaflet")
    for name in ("nothing", "nothing@acme", "echo@nowhere", "@", ""):
        with pytest.raises(ToolNotFound):
            await mesh.client.execute(name)


async def test_errors_of_the_node_arrive_with_their_details(mesh: Mesh) -> None:
    await mesh.publish("acme", "echo")
    await mesh.serve("acme", InvalidArguments("no", {"problems": [{"where": "/text"}]}))
    with pytest.raises(InvalidArguments) as error:
        await mesh.client.execute("echo")
    assert error.value.details == {"problems": [{"where": "/text"}]}


async def test_a_tool_s_own_error_is_told_apart(mesh: Mesh) -> None:
    await mesh.publish("acme", "echo")
    await mesh.serve("acme", CallResult(content=[{"type": "text", "text": "out of paper"}], is_error=True))
    with pytest.raises(ToolFailed, match="out of paper"):
        await mesh.client.execute("echo")


async def test_an_answer_that_is_no_result_is_refused(mesh: Mesh) -> None:
    await mesh.publish("acme", "echo")

    async def nonsense(_: Delivery) -> Reply:
        return Reply(b"[]")

    await mesh.bus.respond(EXECUTE.every("acme"), nonsense)
    await mesh.bus.flush()
    with pytest.raises(InternalError):
        await mesh.client.execute("echo")


async def test_cancelling_a_call_tells_the_node(mesh: Mesh) -> None:
    await mesh.publish("acme", "echo")
    entered: asyncio.Queue[str] = asyncio.Queue()
    cancelled: asyncio.Queue[str] = asyncio.Queue()

    async def slow(delivery: Delivery) -> None:
        entered.put_nowait(delivery.headers[Header.REQUEST_ID])

    async def on_cancel(delivery: Delivery) -> None:
        cancelled.put_nowait(decode(delivery.payload, Cancel).request_id)

    await mesh.bus.respond(EXECUTE.every("acme"), slow)
    await mesh.bus.subscribe(CANCEL.of("acme"), on_cancel)
    await mesh.bus.flush()
    call = asyncio.create_task(mesh.client.execute("echo"))
    async with asyncio.timeout(10):
        request_id = await entered.get()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await cancelled.get() == request_id


async def test_a_deadline_that_the_node_did_not_keep_is_told_to_it(mesh: Mesh) -> None:
    await mesh.publish("acme", "echo")
    cancelled: asyncio.Queue[str] = asyncio.Queue()

    async def silent(_: Delivery) -> None:
        return None

    async def on_cancel(delivery: Delivery) -> None:
        cancelled.put_nowait(decode(delivery.payload, Cancel).request_id)

    await mesh.bus.respond(EXECUTE.every("acme"), silent)
    await mesh.bus.subscribe(CANCEL.of("acme"), on_cancel)
    await mesh.bus.flush()
    with pytest.raises(DeadlineExceeded):
        await mesh.client.execute("echo", timeout=0.05)
    async with asyncio.timeout(10):
        assert await cancelled.get()


async def test_the_caller_s_own_deadline_holds_when_the_node_says_nothing(mesh: Mesh) -> None:
    await mesh.publish("acme", "echo")

    async def silent(_: Delivery) -> None:
        return None

    await mesh.bus.respond(EXECUTE.every("acme"), silent)
    await mesh.bus.flush()
    with pytest.raises(DeadlineExceeded):
        await mesh.client.execute("echo", timeout=0.05)


async def test_discover_lists_every_tool_by_federated_name(mesh: Mesh) -> None:
    await mesh.publish("globex", "b")
    await mesh.publish("acme", "a")
    assert [tool.federated_name for tool in mesh.client.discover()] == ["a@acme", "b@globex"]


def test_request_ids_are_ordered_by_time() -> None:
    ids = [new_request_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert [value[:13] for value in ids] == sorted(value[:13] for value in ids)
    assert {(UUID(value).version, UUID(value).variant) for value in ids} == {(7, "specified in RFC 4122")}


def test_the_value_of_a_result_is_what_a_plain_caller_wants() -> None:
    text = {"type": "text", "text": "a"}
    image = {"type": "image", "data": "…"}
    assert CallResult(content=[text, {"type": "text", "text": "b"}]).value == "a\nb"
    assert CallResult(content=[text], structured_content={"result": [1]}).value == [1]
    assert CallResult(content=[text], structured_content={"result": 1, "unit": "m"}).value == {
        "result": 1,
        "unit": "m",
    }
    assert CallResult(content=[text, image]).value == [text, image]
    assert CallResult().value == ""


@pytest.mark.parametrize("timeout", [0, -5, float("nan")])
async def test_a_call_without_any_time_left_is_not_sent(mesh: Mesh, timeout: float) -> None:
    await mesh.publish("acme", "echo")
    await mesh.serve("acme")
    with pytest.raises(DeadlineExceeded):
        await mesh.client.execute("echo@acme", timeout=timeout)
    assert not mesh.calls


async def test_an_endless_timeout_is_a_long_one(mesh: Mesh) -> None:
    await mesh.publish("acme", "echo")
    await mesh.serve("acme")
    for timeout in (float("inf"), 1e300):
        await mesh.client.execute("echo@acme", {"text": "a"}, timeout=timeout)


@pytest.mark.parametrize(
    "value", [object(), "\ud800", {1: object()}, float("nan"), {"a": [None, (1.0, float("-inf"))]}]
)
async def test_arguments_that_are_not_json_are_told_as_such(mesh: Mesh, value: Any) -> None:
    await mesh.publish("acme", "echo")
    with pytest.raises(InvalidArguments, match="not JSON"):
        await mesh.client.execute("echo@acme", {"value": value})


async def test_progress_comes_in_order_ahead_of_the_answer_to_whom_asked_for_it(mesh: Mesh) -> None:
    steps = [Progress(progress=float(step), total=3.0, message="größer") for step in range(4)]

    async def respond(delivery: Delivery) -> Reply:
        mesh.calls.append(delivery)
        assert delivery.reply is not None
        for step in steps:
            await mesh.bus.publish(delivery.reply, encode(step), {Header.INTERIM: "progress"})
        await mesh.bus.publish(delivery.reply, b"no message", {Header.INTERIM: "progress"})
        await mesh.bus.publish(delivery.reply, b"{}", {Header.INTERIM: "of a later version"})
        return Reply(encode(CallResult(content=[])))

    await mesh.publish("acme", "count")
    await mesh.bus.respond(EXECUTE.every("acme"), respond)
    await mesh.bus.flush()
    seen: list[Progress] = []
    await mesh.client.execute("count", on_progress=seen.append)
    assert seen == steps
    await mesh.client.execute("count")
    assert seen == steps
    assert [call.headers[Header.ACCEPT] for call in mesh.calls] == ["progress", "interim"]


async def test_a_progress_callback_that_fails_costs_nothing_but_itself(mesh: Mesh) -> None:
    async def respond(delivery: Delivery) -> Reply:
        await mesh.bus.publish(
            delivery.reply or "", encode(Progress(progress=1.0)), {Header.INTERIM: "progress"}
        )
        return Reply(encode(CallResult(content=[{"type": "text", "text": "done"}])))

    def fails(_: Progress) -> None:
        raise RuntimeError("of the caller")

    await mesh.publish("acme", "count")
    await mesh.bus.respond(EXECUTE.every("acme"), respond)
    await mesh.bus.flush()
    assert (await mesh.client.execute("count", on_progress=fails)).value == "done"


async def test_a_progress_callback_that_nobody_would_await_is_refused_ahead_of_the_call(mesh: Mesh) -> None:
    async def awaited(_: Progress) -> None: ...

    class Awaited:
        async def __call__(self, step: Progress) -> None: ...

    for callback in (awaited, partial(awaited), Awaited(), Awaited().__call__):
        with pytest.raises(TypeError, match="plain function"):
            await mesh.client.execute("count", on_progress=callback)  # type: ignore[arg-type]  # what is tested


async def test_a_node_that_fell_silent_is_not_called(mesh: Mesh) -> None:
    await mesh.publish("globex", "echo")
    await mesh.serve("globex")
    mesh.client.catalog.note_unavailable("globex")
    with pytest.raises(NodeUnavailable):
        await mesh.client.execute("echo@globex")
    assert not mesh.calls
    await mesh.publishers["globex"].presence()
    state = mesh.client.catalog.state
    assert await mesh.client.catalog.wait_until(lambda: state.is_available("globex"), 10)
    assert (await mesh.client.execute("echo@globex")).value == "from globex"


async def test_a_call_that_failed_keeps_nothing_of_its_payload(mesh: Mesh) -> None:
    class Weak(dict[str, str]):
        """An argument that can be referred to weakly."""

    await mesh.publish("acme", "echo")
    await mesh.serve("acme", ToolFailed("no"))
    argument = Weak(a="x")
    kept = weakref.ref(argument)
    gc.disable()
    try:
        with suppress(ToolFailed):
            await mesh.client.execute("echo", {"text": argument})
        del argument
        mesh.calls.clear()
        assert kept() is None
    finally:
        gc.enable()
