"""The live probe: governance has the node look again before it approves."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types
import pytest
from mcp.server.mcpserver import MCPServer
from msgspec.structs import replace

from mcp_federation.bus.protocol import Delivery, Reply
from mcp_federation.contract.messages import (
    Probe,
    ProbeAnswer,
    Registration,
    Verdict,
    decode,
    encode,
)
from mcp_federation.contract.subjects import PROBE, REGISTER
from mcp_federation.governance.operators import Operator
from mcp_federation.trust.policy import PRESETS, ProbePolicy
from tests.conftest import Connect
from tests.support.node_servers import Mesh, boxed, hurry, mesh_on, plain, toolbox
from tests.support.registrations import a_registration, a_tool, rules

POLICY = replace(PRESETS["standard"], probe=ProbePolicy(), required=("probe",))
CALLING = replace(POLICY, probe=ProbePolicy(call_read_only=True))


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        await mesh.ungovern()
        await mesh.govern(policy=POLICY)
        yield mesh


async def register(mesh: Mesh, registration: Registration) -> Verdict:
    reply = await mesh.bus.request(REGISTER.of("acme"), encode(registration), timeout=10)
    return decode(reply.payload, Verdict)


async def answering(mesh: Mesh, **fields: Any) -> Registration:
    """A registration whose node answers a probe so."""
    registration = a_registration(a_tool(), instance="one")
    answer = {"digest": registration.digest, **fields}

    async def give(delivery: Delivery) -> Reply:
        assert decode(delivery.payload, Probe).name == registration.tool.name
        return Reply(encode(ProbeAnswer(**answer)))

    await mesh.bus.respond(PROBE.of("acme", "one"), give)
    await mesh.bus.flush()
    return registration


async def test_tools_whose_server_lists_them_again_are_approved(mesh: Mesh) -> None:
    await mesh.node({"plain": plain(), **boxed(toolbox("box", "a", "b"))})
    await mesh.has("plain.echo", "box.a", "box.b")
    case = await Operator(mesh.bus, [mesh.key]).case("plain.echo@acme")
    assert "probe" in case.verdict.checks


@pytest.mark.parametrize(
    ("answer", "decision", "rule"),
    [
        ({}, "approved", None),
        ({"problem": "it is failed"}, "quarantined", "probe-failed"),
        ({"digest": "sha256:" + "0" * 64}, "rejected", "probe-other-text"),
        ({"digest": None}, "rejected", "probe-other-text"),
        ({"list_ms": 60_000.0}, "approved", "probe-slow"),
        ({"call_problem": "it broke"}, "approved", "probe-call-failed"),
    ],
)
async def test_what_the_probe_finds_counts_like_any_finding(
    mesh: Mesh, answer: dict[str, Any], decision: str, rule: str | None
) -> None:
    verdict = await register(mesh, await answering(mesh, **answer))
    assert (verdict.decision, rules(verdict.findings)) == (decision, {rule} if rule else set())


async def test_a_node_that_answers_no_probe_has_its_tools_held_back_where_one_is_required(mesh: Mesh) -> None:
    for registration in (a_registration(), a_registration(instance="gone")):
        verdict = await register(mesh, registration)
        assert (verdict.decision, "probe" in verdict.checks) == ("quarantined", False)
    described = await register(mesh, a_registration(a_tool(name="described"), executable=False))
    assert described.decision == "approved"


async def test_read_only_tools_are_called_where_the_policy_says_so_and_no_others(mesh: Mesh) -> None:
    called: list[str] = []
    server: MCPServer = MCPServer("box", version="1.0.0")

    async def look(text: str) -> str:
        called.append(f"look {text}")
        return text

    async def write(text: str) -> str:
        called.append("write")
        return text

    server.add_tool(
        look,
        description="Looks a word up in the book.",
        annotations=mcp_types.ToolAnnotations(read_only_hint=True),
    )
    server.add_tool(write, description="Notes a word in the book.")
    await mesh.ungovern()
    await mesh.govern(policy=CALLING)
    await mesh.node(boxed(server))
    await mesh.shows({"box.look", "box.write"})
    assert called == ["look example"]
