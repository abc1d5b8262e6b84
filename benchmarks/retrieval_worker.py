"""One system over one set, in a process of its own: `python -m benchmarks.retrieval_worker measure JSON`."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident_mib() -> float:
    """The resident memory of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel tells no memory of a process")


BARE_MIB = resident_mib()
"""Before anything is imported that not every row needs."""

TIMEOUT = 3600.0
CHANGES = 20
BEGAN = time.perf_counter()
ROOT = Path(__file__).resolve().parents[1]


def alone(work: str, **arguments: Any) -> dict[str, Any]:
    """What a function of this module gives in a new process with one thread."""
    return together(1, work, **arguments)[0]


def together(processes: int, work: str, **arguments: Any) -> list[dict[str, Any]]:
    """The same in several processes at once."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, "-m", "benchmarks.retrieval_worker", work, json.dumps(arguments)]
    environment = {**os.environ, **threads}
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) for _ in range(processes)
    ]
    answers = [process.communicate(timeout=TIMEOUT)[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"{work} failed")
    return [json.loads(answer) for answer in answers]


def measure(folder: str, name: str, system: str, sample: int) -> dict[str, Any]:
    """Quality and cost of a system over a set; `missing` names the package that is not installed."""
    from benchmarks.retrieval_data import load_sets
    from benchmarks.retrieval_metrics import DEPTH, cost, quality, row
    from benchmarks.retrieval_systems import SYSTEMS

    data = load_sets(Path(folder), [name], sample)[0]
    specs, ids = data.specs(), data.ids()
    began = time.perf_counter()
    try:
        built = SYSTEMS[system](specs)
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    index_s = time.perf_counter() - began
    durations, rankings = [], []
    for request in data.requests:
        began = time.perf_counter()
        found = built.search(request.text, DEPTH)
        durations.append(time.perf_counter() - began)
        rankings.append([ids[name] for name in found])
    spent = cost(index_s, resident_mib() - BARE_MIB, durations)
    return row(quality(rankings, data.requests), spent)


def many_tools(folder: str, tools: int, cache: str, requests: int) -> dict[str, Any]:
    """The engine over as many tools: seconds from the process's start to the first answer, ms a request, ms
    until a change is found, memory.
    """
    from benchmarks.retrieval_data import many
    from benchmarks.retrieval_metrics import DEPTH, cost
    from benchmarks.retrieval_systems import Engine
    from mcp_federation.engine.documents import tool_spec
    from mcp_federation.engine.rag import MAX_TOP_K  # its import is a part of a start

    imported = time.perf_counter() - BEGAN if MAX_TOP_K else 0.0
    specs, asked = many(Path(folder), tools, requests)
    read = time.perf_counter()
    engine = Engine(specs, cache_directory=cache)
    engine.search(asked[0], DEPTH)
    started = time.perf_counter() - read
    durations, worked = [], []
    for text in asked:
        began, worked_before = time.perf_counter(), time.process_time()
        engine.search(text, DEPTH)
        durations.append(time.perf_counter() - began)
        worked.append(time.process_time() - worked_before)
    changes = []
    for place in range(CHANGES):
        name = f"quokka{place}"
        began = time.perf_counter()
        engine.engine.pareto_registry.add_mcp(tool_spec(name, "zoo", description=f"Feed the {name}."))
        found = engine.search(f"feed the {name}", 1)
        changes.append(time.perf_counter() - began)
        if list(found) != [f"{name}@zoo"]:
            raise RuntimeError("a change was not found at once")
    spent = cost(started, resident_mib() - BARE_MIB, durations)
    return {
        "start_s": imported + started,
        "p50_ms": spent.p50_ms,
        "p99_ms": spent.p99_ms,
        "cpu_p50_ms": cost(0, 0, worked).p50_ms,
        "cpu_p99_ms": cost(0, 0, worked).p99_ms,
        "per_s": len(durations) / sum(durations),
        "change_ms": max(changes) * 1000,
        "memory_mib": spent.memory_mib,
    }


WORK: dict[str, Callable[..., dict[str, Any]]] = {"measure": measure, "many_tools": many_tools}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps(WORK[sys.argv[1]](**json.loads(sys.argv[2]))))
