"""Prints the catalog of a mesh and calls one tool, with nats-py alone: all it knows is docs/asyncapi.yaml.

    python examples/subscribe.py nats://127.0.0.1:4222 --call time.get_current_time@acme \\
        --args '{"timezone": "UTC"}'

It believes every entry. A program that acts on what it reads checks the approvals first, as the document
tells.
"""

import argparse
import asyncio
import json
import sys
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy

STREAM, SUBJECTS = "MCPFED_CATALOG", "mcpfed.v1.catalog.*.*"
TIMEOUT = 30.0  # seconds for the tool, and a little more for its answer

Catalog = dict[str, dict[str, Any]]


async def read_catalog(nc: Client) -> Catalog:
    """The published tools by federated name. The same subscription would go on live."""
    subscription = await nc.jetstream().subscribe(
        SUBJECTS,
        stream=STREAM,
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT),
    )
    entries: Catalog = {}
    info = await subscription.consumer_info()
    pending = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
    while pending:
        msg = await subscription.next_msg(timeout=10)
        pending = msg.metadata.num_pending
        message = json.loads(msg.data)
        if message["type"] == "catalog_entry":  # else a withdrawal: the tool is gone
            entries[f"{message['tool']['name']}@{message['node']}"] = message
    await subscription.unsubscribe()
    return entries


async def call(nc: Client, entry: dict[str, Any], arguments: dict[str, Any]) -> tuple[bool, Any]:
    """Whether the tool did it, and its answer: MCP's CallToolResult, or the mesh's error."""
    params = json.dumps({"name": entry["tool"]["name"], "arguments": arguments}).encode()
    headers = {"Mcpfed-Timeout-Ms": str(int(TIMEOUT * 1000))}
    answer = await nc.request(entry["execute_subject"], params, timeout=TIMEOUT + 1, headers=headers)
    result = json.loads(answer.data)
    failed = "Nats-Service-Error-Code" in (answer.headers or {}) or result.get("isError", False)
    return not failed, result


async def run(url: str, name: str | None, arguments: dict[str, Any]) -> str | None:
    """What went wrong, if anything."""
    try:
        nc = await nats.connect(url, max_reconnect_attempts=1, error_cb=say_nothing)
    except (OSError, nats.errors.Error):
        return f"no NATS server answers at {url}"
    try:
        catalog = await read_catalog(nc)
        for federated_name, entry in sorted(catalog.items()):
            kind = "" if entry.get("execute_subject") else " (described only)"
            print(f"{federated_name}{kind}: {entry['tool'].get('description', '')}")
        if name is None:
            return None
        if not catalog.get(name, {}).get("execute_subject"):
            return f"nothing in the catalog executes {name}"
        done, result = await call(nc, catalog[name], arguments)
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return None if done else f"{name} failed"
    except nats.errors.NoRespondersError:
        return f"no node serves {name} right now"
    except nats.js.errors.NotFoundError:
        return "this NATS server has no catalog"
    finally:
        await nc.close()


async def say_nothing(_: Exception) -> None:
    """What goes wrong is told once, at the end."""


def main() -> None:
    """Read the command line, run, and end with 0 or with what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url", help="a NATS server of the mesh, such as nats://127.0.0.1:4222")
    parser.add_argument("--call", metavar="LOCAL@NODE", help="the tool to call, as the catalog names it")
    parser.add_argument("--args", type=json.loads, default={}, help="its arguments, a JSON object")
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.url, given.call, given.args)))


if __name__ == "__main__":
    main()
