"""A large catalog on one nats-server: `python -m benchmarks.scale [--json FILE]`.

How much CPU and time a new replica needs until it is complete and verified, against a bare JetStream
replay of the same subjects; how soon one changed tool is in every replica, against a bare publish; and
the memory of a replica. Each replica is a process of its own.
"""

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import nats
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from benchmarks.group import Group
from benchmarks.load import percentile
from benchmarks.mesh import bench_environment, start_nats
from benchmarks.report import WIDTH, milliseconds, number
from benchmarks.rounds import median
from benchmarks.scale_worker import CHANGE, HOP, WATCHED_NODE, WATCHED_TOOL
from mcp_federation.bus.nats import NatsBus
from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.messages import CatalogEntry, Tool, encode
from mcp_federation.contract.subjects import CATALOG, CATALOG_STREAM, EXECUTE, RULING_STREAM
from mcp_federation.logs import configure_logs
from mcp_federation.trust.approvals import Approver

AT_ONCE = 64
WORKER_TIMEOUT = 90.0
PAUSE = 0.02
"""Seconds between two changes: each is to find the machine at rest."""

FIELDS = 12
"""Properties of a tool's schema, which make it about a kilobyte."""


def schema(seed: int) -> bytes:
    """A JSON schema of about 1,000 bytes, another one for each seed."""
    pick = random.Random(seed)
    words = ("path", "query", "limit", "format", "since", "until", "filter", "order", "depth", "label")
    properties = {
        f"{pick.choice(words)}_{place}": {
            "type": "string",
            "description": f"The {pick.choice(words)} of the {pick.choice(words)}.",
            "maxLength": pick.randrange(100),
        }
        for place in range(FIELDS)
    }
    return msgspec.json.encode({"type": "object", "properties": properties, "additionalProperties": False})


def entry(approver: Approver, node: str, name: str, seed: int, description: str) -> bytes:
    """A signed catalog entry, as a node would publish it."""
    raw = schema(seed)
    properties = tuple(msgspec.json.decode(raw)["properties"])
    tool = canonical_tool(
        Tool(name=name, description=description, input_schema=msgspec.Raw(raw), parameters=properties)
    )
    digest = tool_digest(tool)
    approval = approver.approve(node, name, digest)
    subject = EXECUTE.of(node, name)
    return encode(
        CatalogEntry(node=node, tool=tool, digest=digest, approval=approval, execute_subject=subject)
    )


def catalog(approver: Approver, nodes: int, tools: int) -> Iterator[tuple[str, bytes]]:
    """Subject and entry of every tool."""
    for node in range(nodes):
        for tool in range(tools):
            where, name = f"node-{node:03}", f"tool-{tool:03}"
            text = f"Does the thing number {tool} that node {node} is known for."
            yield CATALOG.of(where, name), entry(approver, where, name, node * tools + tool, text)


async def publish(bus: NatsBus, entries: Sequence[tuple[str, bytes]]) -> float:
    """Store them, `AT_ONCE` at a time; the seconds that it took."""
    waiting = iter(entries)

    async def work() -> None:
        for subject, payload in waiting:
            await bus.store(subject, payload)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return time.perf_counter() - began


class Worker:
    """A process of `benchmarks.scale_worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, stack: AsyncExitStack, *argv: str) -> "Worker":
        """Start it; it ends with the stack."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.scale_worker",
            *argv,
            env=bench_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        worker = cls(process)
        stack.push_async_callback(worker.stop)
        return worker

    async def answer(self) -> dict[str, Any]:
        """The next thing that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WORKER_TIMEOUT):
            line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let it finish: it prints what it noted."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def stop(self) -> None:
        """End it, whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def replay_once(kind: str, where: tuple[str, str, str]) -> dict[str, Any]:
    """What a fresh process needs to replay the catalog."""
    async with AsyncExitStack() as stack:
        worker = await Worker.start(stack, kind, *where)
        return await worker.answer()


async def propagation(
    bus: NatsBus, approver: Approver, where: tuple[str, str, str], replicas: int, changes: int
) -> dict[str, Any]:
    """Seconds from the publication of a change to each replica, and of a bare message to each subscriber."""
    async with AsyncExitStack() as stack:
        connection = await nats.connect(where[0])
        stack.push_async_callback(connection.close)
        workers = [await Worker.start(stack, "follow", *where) for _ in range(replicas)]
        memory = [(await worker.answer())["memory"] for worker in workers]
        for worker in workers:
            await worker.answer()  # ready
        subject = CATALOG.of(WATCHED_NODE, WATCHED_TOOL)
        published, sent = {}, {}
        for place in range(changes):
            payload = entry(approver, WATCHED_NODE, WATCHED_TOOL, 0, f"{CHANGE}{place} of the tool.")
            await asyncio.sleep(PAUSE)
            published[place] = time.monotonic()
            await bus.store(subject, payload)
            await asyncio.sleep(PAUSE)
            sent[place] = time.monotonic()
            await connection.publish(HOP, b"%08d" % place + payload)
        await connection.flush()
        await asyncio.sleep(1)
        for worker in workers:
            worker.end()
        noted = [await worker.answer() for worker in workers]
    found = {"changes": _delays(published, noted, "changes"), "hops": _delays(sent, noted, "hops")}
    return {
        "memory": memory,
        "lost": {kind: replicas * changes - len(delays) for kind, delays in found.items()},
        **{
            f"{kind}_{name}": percentile(sorted(delays), share)
            for kind, delays in found.items()
            for name, share in (("p50", 0.50), ("p99", 0.99))
        },
    }


def _delays(began: dict[int, float], noted: list[dict[str, Any]], kind: str) -> list[float]:
    return [at - began[int(place)] for worker in noted for place, at in worker[kind].items()]


async def run(options: argparse.Namespace, folder: Path) -> None:
    """Publish, measure, report."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    task = asyncio.current_task()
    assert task is not None
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    approver = Approver(Ed25519PrivateKey.generate())
    with Group(folder) as group:
        url = await start_nats(group)
        async with await NatsBus.connect(url) as bus:
            await bus.ensure_stream(CATALOG_STREAM)
            await bus.ensure_stream(RULING_STREAM)
            entries = list(catalog(approver, options.nodes, options.tools))
            seconds = await publish(bus, entries)
            where = url, str(approver.public), str(len(entries))
            replays: dict[str, list[dict[str, Any]]] = {"bare": [], "replica": []}
            for place in range(options.rounds):
                for kind in ("bare", "replica") if place % 2 else ("replica", "bare"):
                    replays[kind].append(await replay_once(kind, where))
            spread = await propagation(bus, approver, where, options.replicas, options.changes)
    result = {
        "entries": len(entries),
        "bytes": sum(len(payload) for _, payload in entries),
        "published_in": seconds,
        "replays": replays,
        "replicas": options.replicas,
        "changes": options.changes,
        "propagation": spread,
    }
    print_result(console, result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def print_result(console: Console, result: dict[str, Any]) -> None:
    """The table."""
    size = result["bytes"] / result["entries"]
    table = Table(title=f"{result['entries']:,} signed entries of {size:,.0f} bytes", title_justify="left")
    for name in ("what", "ours", "bare", "ratio", "wanted"):
        table.add_column(name, justify="left" if name == "what" else "right")

    def of(kind: str, name: str) -> float:
        return median([replay[name] for replay in result["replays"][kind]])

    for name, unit, wanted in (("cpu", "s of CPU", "≤ 2 s"), ("wall", "s", "")):
        ours, theirs = of("replica", name), of("bare", name)
        what = f"a new replica, complete and verified, {unit}"
        table.add_row(what, number(ours, 2), number(theirs, 2), f"{ours / theirs:.1f}x", wanted)
    spread = result["propagation"]
    for name, wanted in (("p50", ""), ("p99", "≤ 3x")):
        ours, theirs = spread[f"changes_{name}"], spread[f"hops_{name}"]
        what = f"a change in each of {result['replicas']} replicas, {name} ms"
        table.add_row(what, milliseconds(ours), milliseconds(theirs), f"{ours / theirs:.1f}x", wanted)
    ours, theirs = of("replica", "memory") / 2**20, of("bare", "memory") / 2**20
    table.add_row("memory, MiB", number(ours, 1), number(theirs, 1), "", "stated")
    table.add_row("publishing it all, s", number(result["published_in"], 2), "", "", "")
    complete = {replay["entries"] for each in result["replays"].values() for replay in each}
    table.add_row(
        "entries in each replica", ", ".join(f"{count:,}" for count in sorted(complete)), "", "", ""
    )
    lost = spread["lost"]
    table.add_row("changes that did not arrive", str(lost["changes"]), str(lost["hops"]), "", "0")
    console.print(table)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=100, help="nodes (100)")
    parser.add_argument("--tools", type=int, default=100, help="tools a node (100)")
    parser.add_argument("--replicas", type=int, default=8, help="replicas that follow at once (8)")
    parser.add_argument("--changes", type=int, default=100, help="changes of a tool (100)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved replays of each kind (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    options = parser.parse_args(argv)
    configure_logs("error")
    folder = Path(tempfile.mkdtemp(prefix="mcpfed-bench-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(options, folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
