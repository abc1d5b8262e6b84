"""Learn the order of candidates: `python scripts/train_ranking.py --data DIR --out FILE`.

Coordinate ascent on nDCG@10 over the weights of `FEATURES`, from the plain fusion on. A weight must pay for
itself, and groups of sets count by how much they gain over the fusion, times the root of their requests. It
is the mean of several climbs, each in an order of its own: what chance gives one of them, others do not have.
What is written is learned from all groups; printed as well is what each gets by weights that are learned
from the others, and what sets get that are held out.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file

from benchmarks.retrieval_data import RetrievalSet, load_sets
from mcp_federation.engine.documents import tool_document
from mcp_federation.engine.search.encoder import StaticEncoder, default_encoder, read_encoder
from mcp_federation.engine.search.features import FEATURES, encode_request, features, recall
from mcp_federation.engine.search.hybrid import HybridRetriever, candidates
from mcp_federation.engine.search.ranking import FUSION, Ranking
from mcp_federation.engine.search.request import read_request

Floats = NDArray[np.float32]

DEPTH = 10
STEPS = (0.4, 0.2, 0.1)
CLIMBS = 4
PRICE = 0.002
LEAST_GAIN = 2e-4
DISCOUNTS = 1 / np.log2(np.arange(2, DEPTH + 2))


@dataclass(frozen=True)
class Candidates:
    """A set's candidates: rows of features and whether they serve, per request; and its relevant tools."""

    rows: list[Floats]
    serving: list[NDArray[np.bool_]]
    relevant: list[int]

    def ndcg(self, weights: Floats) -> float:
        """The mean nDCG@10 of the order by the weights."""
        gains = 0.0
        for rows, serving, count in zip(self.rows, self.serving, self.relevant, strict=True):
            first = np.argsort(-(rows @ weights), kind="stable")[:DEPTH]
            ideal = DISCOUNTS[: min(DEPTH, count)].sum()
            gains += float((serving[first] * DISCOUNTS[: len(first)]).sum() / ideal)
        return gains / len(self.rows)


def gather(data: RetrievalSet, encoder: StaticEncoder) -> Candidates:
    """The candidates of every request of a set."""
    retriever, ids = HybridRetriever(encoder), data.ids()
    for spec in data.specs():
        retriever.add(spec.name, tool_document(spec))
    index = retriever.index
    rows, serving = [], []
    for request in data.requests:
        encoding = encode_request(read_request(request.text), index)
        found = recall(encoding, index)
        slots = candidates(found, index.kept(None), DEPTH)
        rows.append(
            features(encoding, found, slots, index)
            if len(slots)
            else np.zeros((0, len(FEATURES)), dtype=np.float32)
        )
        serving.append(np.array([ids[index.key(slot)] in request.relevant for slot in slots], dtype=np.bool_))
    return Candidates(rows, serving, [len(request.relevant) for request in data.requests])


def learn(groups: Sequence[Sequence[Candidates]]) -> Floats:
    """The weights that the groups gain by: the mean of where the climbs end."""
    base = [mean(data.ndcg(column(FUSION)) for data in group) for group in groups]
    shares = np.sqrt([sum(len(data.rows) for data in group) for group in groups])

    def worth(tried: Floats) -> float:
        gains = [
            mean(data.ndcg(tried) for data in group) / was for group, was in zip(groups, base, strict=True)
        ]
        return float(np.average(gains, weights=shares)) - PRICE * float(np.abs(tried - column(FUSION)).sum())

    ends = [climb(worth, np.random.default_rng(seed)) for seed in range(CLIMBS)]
    found: Floats = np.mean(ends, axis=0)
    return found


def climb(worth: Callable[[Floats], float], order: np.random.Generator) -> Floats:
    """Coordinate ascent from the fusion on, one weight at a time in a random order, by ever smaller steps."""
    weights = column(FUSION)
    best = worth(weights)
    for step in STEPS:
        improved = True
        while improved:
            improved = False
            for place in order.permutation(len(FEATURES)):
                for change in (step, -step):
                    tried = weights.copy()
                    tried[place] += change
                    value = worth(tried)
                    if value > best + LEAST_GAIN:
                        weights, best, improved = tried, value, True
                        break
    return weights


def calibrate(sets: Iterable[Candidates], weights: Floats) -> tuple[float, float]:
    """Slope and middle of the logistic regression of whether a candidate serves on its score (Newton)."""
    scores = np.concatenate([rows @ weights for data in sets for rows in data.rows]).astype(np.float64)
    serving = np.concatenate([flags for data in sets for flags in data.serving]).astype(np.float64)
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    found = np.zeros(2)
    for _ in range(25):
        chance = 1 / (1 + np.exp(-design @ found))
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-6 * np.eye(2)
        found += np.linalg.solve(curvature, design.T @ (serving - chance))
    return float(found[0]), float(-found[1] / found[0])


def column(weights: Mapping[str, float]) -> Floats:
    """Weights in the order of `FEATURES`."""
    return np.array([weights.get(name, 0.0) for name in FEATURES], dtype=np.float32)


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    listed = list(values)
    return math.fsum(listed) / len(listed)


def main() -> None:
    args = arguments()
    sets = _gathered(args.data, args)
    grouped = [[name for name in group.split(",") if name in sets] for group in args.group]
    grouped += [[name] for name in sets if not any(name in group for group in grouped)]
    groups = [[sets[name] for name in group] for group in grouped]
    weights = learn(groups)
    for place, group in enumerate(grouped):
        others = learn(groups[:place] + groups[place + 1 :])
        for name in group:
            figures = (sets[name].ndcg(tried) for tried in (column(FUSION), weights, others))
            print("{}: {:.3f} fused, {:.3f} learned, {:.3f} learned from the others".format(name, *figures))
    for name, data in _gathered(args.held_out, args).items():
        figures = (data.ndcg(tried) for tried in (column(FUSION), weights))
        print("{}: {:.3f} fused, {:.3f} learned from the others".format(name, *figures))
    slope, middle = calibrate(sets.values(), weights)
    chosen = {name: round(float(weight), 3) for name, weight in zip(FEATURES, weights, strict=True) if weight}
    ranking = Ranking(chosen, round(slope, 3), round(middle, 3))
    args.out.write_bytes(msgspec.json.format(msgspec.json.encode(ranking), indent=2) + b"\n")


def _gathered(folders: Sequence[Path], args: argparse.Namespace) -> dict[str, Candidates]:
    return {
        data.name: gather(data, args.encoder.get(data.name) or default_encoder())
        for folder in folders
        for data in load_sets(folder, sample=args.sample)
    }


def encoders(text: str) -> dict[str, StaticEncoder]:
    """`set,set=FILE`: the encoder of each of these sets."""
    names, _, path = text.partition("=")
    encoder = read_encoder(Path(path))
    return dict.fromkeys(names.split(","), encoder)


class _Merged(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), **values})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True, help="a folder of sets")
    parser.add_argument(
        "--held-out", type=Path, action="append", default=[], help="a folder of sets that only measure"
    )
    parser.add_argument("--group", action="append", default=[], help="sets that count as one: a,b")
    parser.add_argument(
        "--encoder",
        type=encoders,
        action=_Merged,
        default={},
        help="a,b=FILE: the weights that have not seen the requests of sets that the default's have",
    )
    parser.add_argument("--sample", type=int, default=500, help="requests of each set at most")
    parser.add_argument("--out", type=Path, required=True, help="the file of weights to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
