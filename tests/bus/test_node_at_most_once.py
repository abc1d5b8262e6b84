"""A request that is delivered again returns the first outcome, and its tool never runs twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp.server.mcpserver import MCPServer

from mcp_federation.bus.protocol import Delivery
from mcp_federation.contract.mcp import decode_result
from mcp_federation.contract.messages import Cancel, ErrorReply, decode, encode
from mcp_federation.contract.subjects import CANCEL, EXECUTE, Header
from mcp_federation.errors import Cancelled, DeadlineExceeded, InvalidRequest, OutcomeForgotten, ToolFailed
from mcp_federation.node.execution.outcomes import MAX_REPLY, Outcomes
from tests.conftest import Connect
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on

BILL = b'{"arguments":{"amount":7}}'


class Shop:
    """A toolbox whose tools count how often they run."""

    def __init__(self) -> None:
        self.runs = 0
        self.entered = asyncio.Event()
        self.released = asyncio.Event()
        self.server: MCPServer = MCPServer("shop")
        self.server.add_tool(self.charge, description="Charges the account and gives the number of the bill.")
        self.server.add_tool(self.wait, description="Charges the account once somebody allows it.")
        self.server.add_tool(self.refuse, description="Charges the account and fails after that.")

    async def charge(self, amount: int) -> int:
        self.runs += 1
        return self.runs

    async def wait(self, amount: int) -> int:
        self.entered.set()
        await self.released.wait()
        return await self.charge(amount)

    async def refuse(self, amount: int) -> int:
        self.runs += 1
        raise ValueError("no money")


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        yield mesh


@pytest.fixture
async def shop(mesh: Mesh) -> Shop:
    shop = Shop()
    await mesh.node(boxed(shop.server))
    await mesh.shows({"shop.charge", "shop.wait", "shop.refuse"})
    return shop


async def send(
    mesh: Mesh, tool: str, payload: bytes = BILL, request_id: str = "one", timeout_ms: int = 10_000
) -> Delivery:
    headers = {Header.REQUEST_ID: request_id, Header.TIMEOUT_MS: str(timeout_ms)}
    return await mesh.bus.request(EXECUTE.of("acme", tool), payload, timeout=15, headers=headers)


def text_of(reply: Delivery) -> str:
    return decode_result(reply.payload).text


def code_of(reply: Delivery) -> str:
    return decode(reply.payload, ErrorReply).code


async def test_a_repetition_after_the_fact_gets_the_first_reply(mesh: Mesh, shop: Shop) -> None:
    replies = [await send(mesh, "shop.charge") for _ in range(3)]
    assert [text_of(reply) for reply in replies] == ["1"] * 3
    assert text_of(await send(mesh, "shop.charge", request_id="two")) == "2"
    assert shop.runs == 2


async def test_repetitions_at_once_run_once(mesh: Mesh, shop: Shop) -> None:
    first = asyncio.create_task(send(mesh, "shop.wait"))
    await shop.entered.wait()
    others = [asyncio.create_task(send(mesh, "shop.wait")) for _ in range(4)]
    await mesh.heard(lambda presence: presence.in_flight == 5)
    shop.released.set()
    assert {text_of(reply) for reply in await asyncio.gather(first, *others)} == {"1"}
    assert shop.runs == 1


async def test_a_request_without_an_id_runs_each_time(mesh: Mesh, shop: Shop) -> None:
    subject = EXECUTE.of("acme", "shop.charge")
    replies = [await mesh.bus.request(subject, BILL, timeout=10) for _ in range(2)]
    assert [text_of(reply) for reply in replies] == ["1", "2"]


async def test_the_error_of_a_tool_is_repeated_and_not_caused_again(mesh: Mesh, shop: Shop) -> None:
    replies = [await send(mesh, "shop.refuse") for _ in range(2)]
    assert all(decode_result(reply.payload).is_error for reply in replies)
    assert replies[0].payload == replies[1].payload
    assert shop.runs == 1
    with pytest.raises(ToolFailed):
        await mesh.call("shop.refuse", amount=1)


async def test_refused_arguments_leave_the_id_unused(mesh: Mesh, shop: Shop) -> None:
    assert code_of(await send(mesh, "shop.charge", b"{}")) == "invalid_arguments"
    assert text_of(await send(mesh, "shop.charge")) == "1"


async def test_a_cancellation_reaches_every_delivery_of_the_id(mesh: Mesh, shop: Shop) -> None:
    first = asyncio.create_task(send(mesh, "shop.wait"))
    await shop.entered.wait()
    second = asyncio.create_task(send(mesh, "shop.wait"))
    await mesh.heard(lambda presence: presence.in_flight == 2)
    await mesh.bus.publish(CANCEL.of("acme"), encode(Cancel(request_id="one")))
    late = [await first, await second, await send(mesh, "shop.wait")]
    assert [code_of(reply) for reply in late] == [Cancelled.code] * 3
    await mesh.heard(lambda presence: presence.in_flight == 0)
    assert shop.runs == 0


async def test_a_repetition_has_a_deadline_of_its_own(mesh: Mesh, shop: Shop) -> None:
    first = asyncio.create_task(send(mesh, "shop.wait"))
    await shop.entered.wait()
    assert code_of(await send(mesh, "shop.wait", timeout_ms=20)) == DeadlineExceeded.code
    shop.released.set()
    assert text_of(await first) == "1"


async def test_an_id_used_again_for_another_call_is_refused(mesh: Mesh, shop: Shop) -> None:
    first = asyncio.create_task(send(mesh, "shop.wait"))
    await shop.entered.wait()
    other = b'{"arguments":{"amount":8}}'
    for tool, payload in (("shop.wait", other), ("shop.charge", BILL)):
        assert code_of(await send(mesh, tool, payload)) == InvalidRequest.code
    shop.released.set()
    assert text_of(await first) == "1"
    assert code_of(await send(mesh, "shop.charge")) == InvalidRequest.code
    assert shop.runs == 1


async def test_an_id_that_is_none_is_refused(mesh: Mesh, shop: Shop) -> None:
    assert code_of(await send(mesh, "shop.charge", request_id="x" * 65)) == InvalidRequest.code
    assert shop.runs == 0


async def test_a_reply_that_was_too_large_to_keep_is_told_so(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop()
    node = await mesh.node(boxed(shop.server))
    monkeypatch.setattr(node.executor, "_outcomes", Outcomes(max_reply=1))
    await mesh.has("shop.charge")
    assert text_of(await send(mesh, "shop.charge")) == "1"
    assert code_of(await send(mesh, "shop.charge")) == OutcomeForgotten.code
    assert shop.runs == 1


def test_what_nats_carries_by_default_is_kept() -> None:
    assert MAX_REPLY >= 1024 * 1024
