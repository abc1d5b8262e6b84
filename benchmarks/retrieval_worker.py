"""One system over one set, in a process of its own: `python -m benchmarks.retrieval_worker measure JSON`."""

from pathlib import Path


def resident_mib() -> float:
    """The resident memory of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel tells no memory of a process")


BARE_MIB = resident_mib()
"""Before anything else is imported."""

import json  # noqa: E402 - the memory of what is imported counts
import logging  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

TIMEOUT = 3600.0
ROOT = Path(__file__).resolve().parents[1]


def alone(work: str, **arguments: Any) -> dict[str, Any]:
    """What a function of this module gives in a new process with one thread."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.retrieval_worker", work, json.dumps(arguments)],
        cwd=ROOT,
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        timeout=TIMEOUT,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(json.dumps({"measure": measure}[sys.argv[1]](**json.loads(sys.argv[2]))))
