"""Replicas of a node: what one of them cannot run now, another runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_federation.bus.blobs import Blobs
from mcp_federation.bus.protocol import Delivery
from mcp_federation.contract.mcp import CallParams, decode_result
from mcp_federation.contract.messages import Blob, ErrorReply, decode, encode
from mcp_federation.contract.subjects import EXECUTE, Header
from tests.conftest import Connect
from tests.support.node_servers import Mesh, hurry, mesh_on, plain
from tests.support.plain_servers import EXITS

CALLS = 40


@pytest.fixture
async def mesh(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    hurry(monkeypatch)
    async with mesh_on(connect, tmp_path) as mesh:
        yield mesh


async def echo(mesh: Mesh, **headers: str) -> Delivery:
    """One request as it is on the wire, which no caller tries again."""
    payload = b'{"arguments":{"text":"a"}}'
    return await mesh.bus.request(EXECUTE.of("acme", "plain.echo"), payload, timeout=10, headers=headers)


async def test_no_call_fails_where_the_server_of_one_replica_is_down(mesh: Mesh) -> None:
    await mesh.node({"plain": plain()})
    await mesh.has("plain.echo")
    sick = await mesh.node({"plain": plain(EXITS)})
    await mesh.heard(lambda it: it.instance == sick.presence().instance and it.servers[0].state == "failed")
    for number in range(CALLS):
        reply = await echo(mesh, **{Header.REQUEST_ID: f"call {number}"})
        assert decode_result(reply.payload).text == "a"


async def test_a_new_tool_can_be_called_though_a_replica_has_not_published_it_yet(mesh: Mesh) -> None:
    await mesh.node({"plain": plain()})
    await mesh.has("plain.echo")
    late = await mesh.node({"plain": plain()})
    await mesh.ready(late, "plain")
    late.registrar.published.drop("plain.echo")  # as one that started before there was any
    late.registrar._judgements.forget("plain.echo")
    for number in range(CALLS):
        reply = await echo(mesh, **{Header.REQUEST_ID: f"call {number}"})
        assert Header.ERROR_CODE not in reply.headers, reply.payload


async def test_large_arguments_are_still_there_for_the_replica_that_runs_the_call(mesh: Mesh) -> None:
    for _ in range(2):
        node = await mesh.node({"plain": plain()})
    await mesh.has("plain.echo")
    await mesh.ready(node, "plain")
    node.servers["plain"]._link.calls = None  # lost, and its list still there
    blobs = Blobs(mesh.bus)
    text = "x" * 2_000_000
    for number in range(10):
        headers = {Header.REQUEST_ID: f"call {number}", Header.BLOB: "1", Header.ACCEPT: "interim"}
        with await blobs.offer(encode(CallParams(name="plain.echo", arguments={"text": text}))) as offer:
            reply = await mesh.bus.request(
                EXECUTE.of("acme", "plain.echo"), encode(offer.blob), timeout=10, headers=headers
            )
        assert Header.ERROR_CODE not in reply.headers, reply.payload
        result = await blobs.fetch(decode(reply.payload, Blob), 10)
        assert decode_result(result).text == text
    await blobs.close()


async def test_the_last_replica_says_that_its_server_is_down(mesh: Mesh) -> None:
    node = await mesh.node({"plain": plain()})
    await mesh.has("plain.echo")
    await mesh.leave(node)
    await mesh.node({"plain": plain(EXITS)})
    for handed_on in ({}, {Header.HANDED_ON: "16"}, {Header.HANDED_ON: "nonsense"}):
        reply = await echo(mesh, **handed_on)
        assert decode(reply.payload, ErrorReply).code == "server_down"
