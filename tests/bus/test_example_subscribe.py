"""The example that knows only the AsyncAPI document, against a server where the test plays the node."""

import ast
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.bus

EXAMPLE = Path(__file__).parents[2] / "examples" / "subscribe.py"


@pytest.fixture
async def node(own_nats_server: NatsServer) -> AsyncIterator[Client]:
    """A node that publishes three tools and withdrew one, in nothing but raw messages."""
    client = await nats.connect(own_nats_server.url)
    js = client.jetstream()
    await js.add_stream(
        StreamConfig(name="MCPFED_CATALOG", subjects=["mcpfed.v1.catalog.*.*"], max_msgs_per_subject=1)
    )
    for name, token, executable in (
        ("text.größe", "text=2Egr=C3=B6=C3=9Fe", True),
        ("broken", "broken", True),
        ("paper", "paper", False),
        ("gone", "gone", True),
    ):
        entry: dict[str, Any] = {
            "type": "catalog_entry",
            "node": "acme",
            "tool": {"name": name, "description": f"About {name}.", "inputSchema": {"type": "object"}},
            "digest": "sha256:" + "0" * 64,
            "approval": "a.b.c",
        }
        if executable:
            entry["execute_subject"] = f"mcpfed.v1.execute.acme.{token}"
        await js.publish(f"mcpfed.v1.catalog.acme.{token}", json.dumps(entry).encode())
    withdrawal = {"type": "withdrawal", "node": "acme", "name": "gone"}
    await js.publish("mcpfed.v1.catalog.acme.gone", json.dumps(withdrawal).encode())

    async def execute(msg: Msg) -> None:
        params = json.loads(msg.data)
        if params["name"] == "broken":
            error = {"type": "error", "code": "overloaded", "message": "full"}
            headers = {"Nats-Service-Error": "full", "Nats-Service-Error-Code": "429"}
            await client.publish(msg.reply, json.dumps(error).encode(), headers=headers)
        else:
            text = f"{params['name']} {params['arguments']['of']} {(msg.headers or {})['Mcpfed-Timeout-Ms']}"
            await client.publish(
                msg.reply,
                json.dumps({"content": [{"type": "text", "text": text}], "isError": False}).encode(),
            )

    await client.subscribe("mcpfed.v1.execute.acme.*", queue="node-acme", cb=execute)
    await client.flush()
    yield client
    await client.close()


async def run(url: str, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(EXAMPLE),
        url,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


def test_it_imports_nothing_of_the_federation() -> None:
    imported = {
        name.name.partition(".")[0]
        for statement in ast.walk(ast.parse(EXAMPLE.read_text()))
        for name in getattr(statement, "names", [])
        if isinstance(statement, ast.Import)
    } | {
        (statement.module or "").partition(".")[0]
        for statement in ast.walk(ast.parse(EXAMPLE.read_text()))
        if isinstance(statement, ast.ImportFrom)
    }
    assert imported - sys.stdlib_module_names == {"nats"}


@pytest.mark.usefixtures("node")
async def test_it_prints_the_catalog_and_the_result_of_a_call(own_nats_server: NatsServer) -> None:
    code, out, err = await run(own_nats_server.url, "--call", "text.größe@acme", "--args", '{"of": "this"}')
    assert (code, err) == (0, "")
    catalog, _, result = out.partition("{")
    assert catalog.splitlines() == [
        "broken@acme: About broken.",
        "paper@acme (described only): About paper.",
        "text.größe@acme: About text.größe.",
    ]
    assert json.loads("{" + result)["content"] == [{"type": "text", "text": "text.größe this 30000"}]


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("broken@acme", "broken@acme failed"),
        ("paper@acme", "nothing in the catalog executes paper@acme"),
        ("gone@acme", "nothing in the catalog executes gone@acme"),
    ],
)
async def test_it_says_what_went_wrong(own_nats_server: NatsServer, name: str, complaint: str) -> None:
    code, _, err = await run(own_nats_server.url, "--call", name)
    assert (code, err.strip()) == (1, complaint)


async def test_it_says_that_the_node_is_gone(own_nats_server: NatsServer, node: Client) -> None:
    await node.close()
    code, _, err = await run(own_nats_server.url, "--call", "broken@acme")
    assert (code, err.strip()) == (1, "no node serves broken@acme right now")


async def test_it_says_that_there_is_no_catalog(own_nats_server: NatsServer) -> None:
    code, _, err = await run(own_nats_server.url)
    assert (code, err.strip()) == (1, "this NATS server has no catalog")
