"""How good a ranking is. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.load import percentile
from benchmarks.retrieval_data import Request

DEPTH = 10


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the requests, each in [0, 1].

    recall_k: the share of the relevant tools among the first k. ndcg_10: binary gains, log2 discounts.
    completeness_10: the share of requests of whose every group a tool is among the first ten.
    """

    recall_1: float
    recall_5: float
    recall_10: float
    ndcg_10: float
    completeness_10: float


def recall(ranking: Sequence[str], request: Request, depth: int) -> float:
    """The share of the relevant tools among the first `depth`."""
    return len(request.relevant.intersection(ranking[:depth])) / len(request.relevant)


def ndcg(ranking: Sequence[str], request: Request, depth: int = DEPTH) -> float:
    """Normalised discounted cumulative gain with binary relevance."""
    gain = sum(_discount(place) for place, tool in enumerate(ranking[:depth]) if tool in request.relevant)
    return gain / sum(map(_discount, range(min(depth, len(request.relevant)))))


def complete(ranking: Sequence[str], request: Request, depth: int = DEPTH) -> bool:
    """Whether every group has a tool among the first `depth`."""
    first = set(ranking[:depth])
    return all(not group.isdisjoint(first) for group in request.groups)


def quality(rankings: Iterable[Sequence[str]], requests: Sequence[Request]) -> Quality:
    """The means over requests and their rankings, which are in the same order."""
    rows = [
        (
            recall(ranking, request, 1),
            recall(ranking, request, 5),
            recall(ranking, request, 10),
            ndcg(ranking, request),
            float(complete(ranking, request)),
        )
        for ranking, request in zip(rankings, requests, strict=True)
    ]
    return Quality(*(math.fsum(column) / len(rows) for column in zip(*rows, strict=True)))


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took: seconds to index, MiB above a bare Python process, ms a request."""

    index_s: float
    memory_mib: float
    p50_ms: float
    p99_ms: float


def cost(index_s: float, memory_mib: float, durations: Iterable[float]) -> Cost:
    """The cost, from the durations of the requests in seconds."""
    ordered = sorted(durations)
    return Cost(index_s, memory_mib, percentile(ordered, 0.5) * 1000, percentile(ordered, 0.99) * 1000)


def row(quality: Quality, cost: Cost) -> dict[str, float]:
    """Both as one flat object."""
    return {**asdict(quality), **asdict(cost)}


def _discount(place: int) -> float:
    return 1 / math.log2(place + 2)
