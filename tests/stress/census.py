"""What a process holds, counted, so that two countings tell a leak."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import urlopen


@dataclass(frozen=True)
class Census:
    """This process's tasks, descriptors and descendants; the connections and subscriptions of all."""

    tasks: int
    descriptors: int
    children: int
    connections: int
    subscriptions: int

    def exceeds(self, other: "Census") -> dict[str, str]:
        """Of what there is more than in the other."""
        mine, theirs = asdict(self), asdict(other)
        return {key: f"{theirs[key]} -> {mine[key]}" for key in mine if mine[key] > theirs[key]}


async def take_census(monitor: str) -> Census:
    """Count. `monitor` is the URL of nats-server's monitoring."""
    connections, subscriptions = await asyncio.to_thread(_ask, monitor)
    return Census(
        tasks=len(asyncio.all_tasks()),
        descriptors=_descriptors(),
        children=len(descendants(os.getpid())),
        connections=connections,
        subscriptions=subscriptions,
    )


async def returned_to(start: Census, monitor: str, timeout: float) -> dict[str, str]:
    """Of what there is more than at the start, once there is nothing or the time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        more = (await take_census(monitor)).exceeds(start)
        if not more or loop.time() > deadline:
            return more
        await asyncio.sleep(0.5)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _ask(monitor: str) -> tuple[int, int]:
    # Of clients: the server's own are JetStream's, for consumers that it keeps a while after their end.
    with urlopen(f"{monitor}/connz", timeout=5) as answer:
        connections = json.load(answer)["connections"]
    return len(connections), sum(connection["subscriptions"] for connection in connections)


def descendants(pid: int) -> list[int]:
    """The processes below a process, those that only wait to be reaped left out."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        fields = _stat(folder) if folder.name.isdigit() else []
        if fields and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, open_ = [], [pid]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def having(what: Callable[[int], bool]) -> list[int]:
    """The processes of which something holds."""
    numbers = (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
    return [number for number in numbers if what(number)]


def has_variable(pid: int, assignment: str) -> bool:
    """Whether a process was started with that variable: what it leaves behind has it, too."""
    try:
        return assignment.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def command_of(pid: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _stat(folder: Path) -> list[str]:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
