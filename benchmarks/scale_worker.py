"""One process of the scale benchmark: `python -m benchmarks.scale_worker KIND NATS_URL KEY COUNT`.

`bare` and `replica` replay the catalog and print what that took; `follow` then also notes when changes
arrive, until its stdin ends.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nats
import uvloop
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from mcp_federation.bus.nats import NatsBus
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.contract.subjects import CATALOG_STREAM
from mcp_federation.logs import configure_logs
from mcp_federation.trust.approvals import ApprovalVerifier
from mcp_federation.trust.keys import parse_trusted_key

HOP = "bench.hop"
WATCHED_NODE, WATCHED_TOOL = "node-000", "tool-000"
CHANGE = "change "
"""How the description of the changed tool begins; its number follows."""

REPLAY_TIMEOUT = 60.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """The memory that this process has in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


class Stopwatch:
    """CPU, wall time and memory between its making and `read`."""

    def __init__(self) -> None:
        self._cpu, self._wall, self._memory = time.process_time(), time.perf_counter(), resident_bytes()

    def read(self, entries: int) -> dict[str, Any]:
        """Seconds, and bytes."""
        return {
            "cpu": time.process_time() - self._cpu,
            "wall": time.perf_counter() - self._wall,
            "memory": resident_bytes() - self._memory,
            "entries": entries,
        }


async def bare(url: str, count: int) -> dict[str, Any]:
    """Replay every subject's last message with nats-py, and do nothing with it."""
    connection = await nats.connect(url)
    done = asyncio.Event()
    seen = 0

    async def take(msg: Msg) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    stopwatch = Stopwatch()
    inbox = connection.new_inbox()
    await connection.subscribe(inbox, cb=take, pending_bytes_limit=0, pending_msgs_limit=0)
    config = ConsumerConfig(
        deliver_subject=inbox, ack_policy=AckPolicy.NONE, max_deliver=1, mem_storage=True, num_replicas=1
    )
    await connection.jetstream().add_consumer(CATALOG_STREAM.name, config)
    async with asyncio.timeout(REPLAY_TIMEOUT):
        await done.wait()
    result = stopwatch.read(seen)
    await connection.close()
    return result


async def replica(url: str, key: str, follow: bool) -> dict[str, Any]:
    """Start a replica; with `follow`, then note arrivals until stdin ends."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await NatsBus.connect(url))
        stopwatch = Stopwatch()
        catalog = CatalogReplica(bus, ApprovalVerifier([parse_trusted_key(key)]))
        stack.push_async_callback(catalog.stop)
        await catalog.start(REPLAY_TIMEOUT)
        result = stopwatch.read(sum(1 for _ in catalog.state.tools()))
        if follow:
            print(json.dumps(result), flush=True)
            result = await _arrivals(url, catalog)
        return result


async def _arrivals(url: str, catalog: CatalogReplica) -> dict[str, Any]:
    """When each change was in the replica, and each bare message here, by number, in monotonic time."""
    changes: dict[int, float] = {}
    hops: dict[int, float] = {}

    def changed() -> None:
        tool = catalog.state.get(WATCHED_NODE, WATCHED_TOOL)
        if tool is not None and tool.tool.description.startswith(CHANGE):
            changes.setdefault(int(tool.tool.description.split()[1]), time.monotonic())

    async def hop(msg: Msg) -> None:
        hops[int(msg.data[:8])] = time.monotonic()

    connection = await nats.connect(url)
    await connection.subscribe(HOP, cb=hop)
    await connection.flush()
    catalog.on_change(changed)
    print(json.dumps({"ready": True}), flush=True)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    await connection.close()
    return {"changes": changes, "hops": hops}


def main(kind: str, url: str, key: str, count: str) -> None:
    """Do it, and print the result as JSON."""
    configure_logs("error")
    work = bare(url, int(count)) if kind == "bare" else replica(url, key, kind == "follow")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
