"""The registrar alone: what it asks of governance, and what it makes of the answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp_types import Tool

from mcp_federation.bus.protocol import Bus, Delivery, Reply, Stored
from mcp_federation.contract.messages import (
    Registration,
    Verdict,
    Withdrawal,
    decode,
    decode_catalog,
    encode,
)
from mcp_federation.contract.subjects import CATALOG_STREAM, REGISTER, STREAMS
from mcp_federation.errors import (
    InvalidRequest,
)
from mcp_federation.node.publication import decisions
from mcp_federation.node.publication.registrar import Registrar
from mcp_federation.node.tools import LocalTool, to_local_tools
from mcp_federation.trust.approvals import Approver
from tests.support.node_servers import hurry


class Judge:
    """A governance of its own: answers what it is told, and counts."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Registration] = asyncio.Queue()
        self.decision: Any = "approved"
        self.approval: str | None = None
        self.name: str | None = None

    async def __call__(self, delivery: Delivery) -> Reply:
        registration = decode(delivery.payload, Registration)
        self.asked.put_nowait(registration)
        approval = self.approval if self.decision == "approved" else None
        verdict = Verdict(
            node=registration.node,
            name=self.name or registration.tool.name,
            digest=registration.digest,
            decision=self.decision,
            approval=approval,
        )
        return Reply(encode(verdict))


@pytest.fixture
async def alone(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Registrar, Judge]]:
    """A registrar with a judge instead of governance."""
    hurry(monkeypatch)
    for spec in STREAMS:
        await bus.ensure_stream(spec)
    judge = Judge()
    await bus.respond(REGISTER.every(), judge)
    found = Registrar(bus, "acme")
    await found.start()
    yield found, judge
    await found.stop()


def a_tool(name: str = "now") -> LocalTool:
    (tool,), _ = to_local_tools(
        "time", [Tool(name=name, input_schema={})], version="1", only_tool_is_server=False
    )
    return tool


async def test_an_approval_is_renewed_when_half_of_its_life_is_over(
    alone: tuple[Registrar, Judge], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, judge = alone
    judge.approval = _approval(seconds=1)
    found.set_tools("time", [a_tool()])
    async with asyncio.timeout(5):
        await judge.asked.get()
        await judge.asked.get()
    assert await found.wait_decided(["time.now"], 5)


async def test_a_tool_whose_renewal_is_refused_is_withdrawn(
    alone: tuple[Registrar, Judge], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "RENEW_AFTER", 0.2)
    found, judge = alone
    judge.approval = _approval(seconds=1000)
    found.set_tools("time", [a_tool()])
    assert await found.wait_decided(["time.now"], 5)
    assert found.get("time.now") is not None
    judge.decision = "quarantined"
    withdrawn = asyncio.Event()

    async def watch(stored: Stored) -> None:
        if isinstance(decode_catalog(stored.payload), Withdrawal):
            withdrawn.set()

    await bus.follow(CATALOG_STREAM, watch)
    await asyncio.wait_for(withdrawn.wait(), 5)
    assert found.get("time.now") is None
    assert [tool.decision for tool in found.refused()] == ["quarantined"]


@pytest.mark.parametrize("approval", ["", "no token", "eyJhbGciOiJub25lIn0.e30."])
async def test_an_approval_that_cannot_be_read_publishes_nothing(
    alone: tuple[Registrar, Judge], approval: str
) -> None:
    found, judge = alone
    judge.approval = approval
    found.set_tools("time", [a_tool()])
    async with asyncio.timeout(5):
        await judge.asked.get()
        await judge.asked.get()
    assert found.get("time.now") is None
    assert not await found.wait_decided(["time.now"], 0.01)


async def test_a_verdict_on_another_tool_counts_for_nothing(alone: tuple[Registrar, Judge]) -> None:
    found, judge = alone
    judge.approval, judge.name = _approval(seconds=1000), "time.then"
    with pytest.raises(InvalidRequest, match="of another tool"):
        await found.ask(a_tool())
    assert found.get("time.now") is None


async def test_a_server_that_comes_back_has_its_place_again(bus: Bus) -> None:
    found = Registrar(bus, "acme", ["first", "second"])
    tools = {server: replace(a_tool(), server=server) for server in ("second", "first")}
    for server, tool in tools.items():
        found.set_tools(server, [tool])
    assert found.holder("time.now") == "first"
    found.remove_server("first")
    assert found.holder("time.now") == "second"
    found.set_tools("first", [tools["first"]])
    assert found.holder("time.now") == "first"
    found.remove_server("never there")


async def test_a_tool_that_nobody_has_is_never_decided(alone: tuple[Registrar, Judge]) -> None:
    found, _ = alone
    assert not await found.wait_decided(["time.now"], 0.01)
    assert found.holder("time.now") is None


def _approval(seconds: float) -> str:
    return Approver(Ed25519PrivateKey.generate(), timedelta(seconds=seconds)).approve("acme", "x", "y")
