"""Trains the detector's model on labelled and generated tools; calibrates it on what it did not see."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Final
from zlib import crc32

import numpy as np

from mcp_federation.contract.messages import Registration
from mcp_federation.governance.checks.reading import read
from mcp_federation.governance.detector.features import features
from mcp_federation.governance.detector.model import CAPABILITY, FEWEST, INSTRUCTIONS, Head
from mcp_federation.governance.detector.passages import passages
from scripts.detector.data import DECLARED, DUAL_USE, IN_THE_WILD, Row, registration
from scripts.detector.fit import Array, Fit, fit
from scripts.detector.generate import Text, attacks, capabilities, honest

SEED: Final = 44
EACH: Final = 500
"""Generated texts of a family."""
HONEST_EACH: Final = 400
FOLDS: Final = 3
ROUNDS: Final = 2
STEPS: Final = 60
PRIOR: Final = 0.05
"""The share of attacks that probabilities are calibrated to."""
HELD: Final = {INSTRUCTIONS: 0.0023, CAPABILITY: 0.0008}
"""The share of unseen honest tools that each head may hold for a person."""
REFUSED: Final = {INSTRUCTIONS: 0.0003, CAPABILITY: 0.0}
"""The share of them that it may reject; a stated capability is never rejected by the model."""
_RIDGE: Final = {INSTRUCTIONS: 5e-4, CAPABILITY: 3e-5}
_POSITIVE_SHARE: Final = {INSTRUCTIONS: 0.5, CAPABILITY: 1.0}
_TRUSTED = 3  # a real attack counts as much as so many generated ones
_LEAST_SCORE = 2.0

Bag = list[frozenset[int]]
"""A tool: the features of each of its passages."""


@dataclass(frozen=True, slots=True)
class Example:
    """A tool to learn from: its passages, what is wrong with it ("" for nothing), and its group for folds."""

    bag: Bag
    label: str
    group: str
    weight: int = 1
    is_wild: bool = False


def bag(tool: Registration) -> Bag:
    """The features of each passage of a tool that says anything."""
    return [frozenset(features(each.hits)) for each in passages(read(tool)) if len(each.hits) >= FEWEST]


def real_examples(rows: Iterable[Row]) -> list[Example]:
    """Those of the labelled tools that may be learned from."""
    return [
        Example(
            bag(row.registration()),
            _label(row),
            row.server or row.source,
            _weight(row),
            row.kind == IN_THE_WILD,
        )
        for row in rows
        if row.may_train and row.kind != DUAL_USE
    ]


def generated_examples(rows: Sequence[Row], seed: int = SEED, each: int = EACH) -> list[Example]:
    """Generated attacks over the honest tools among the rows, and honest texts that look like attacks."""
    pick = random.Random(seed)  # noqa: S311  # a seeded generator is what makes training repeatable
    hosts = [row for row in rows if row.may_train and not row.attack]
    names = [row.name for row in hosts]
    found = []
    for text in attacks(pick, names, each):
        host = pick.choice(hosts)
        found.append(_example(host.name, _over(text, host.description, pick), INSTRUCTIONS, text))
    for text in capabilities(pick, each):
        name = pick.choice(hosts).name if pick.random() < 0.5 else "tool"
        found.append(_example(name, text.text, CAPABILITY, text))
    for text in honest(pick, names, HONEST_EACH):
        host = pick.choice(hosts)
        shown = text.text if pick.random() < 0.5 else f"{_sentences(host.description)[0]}. {text.text}"
        found.append(_example("tool", shown, "", text))
    return found


def train(examples: Sequence[Example]) -> dict[str, Head]:
    """Both heads; their probabilities and bounds come from folds by server and by family of attacks."""
    return {label: train_head(examples, label) for label in (INSTRUCTIONS, CAPABILITY)}


def train_head(examples: Sequence[Example], label: str) -> Head:
    """The head that tells attacks with this label."""
    fitted = _fit(examples, label)
    return _calibrated(Head(fitted.weights, fitted.intercept), examples, label)


def best_score(head: Head | Fit, tool: Bag) -> float:
    """The score of a tool's worst passage."""
    return max((_score(head, passage) for passage in tool), default=head.intercept)


def _label(row: Row) -> str:
    if not row.attack:
        return ""
    return CAPABILITY if row.signal == DECLARED else INSTRUCTIONS


def _weight(row: Row) -> int:
    return _TRUSTED if row.attack else 1


def _example(name: str, description: str, label: str, text: Text) -> Example:
    return Example(bag(registration(name, description)), label, f"generated {text.family}")


def _over(text: Text, description: str, pick: random.Random) -> str:
    """The attack alone, behind the honest description, or before it."""
    sentences = _sentences(description)
    place = pick.random()
    if place < 0.35:
        return text.text
    if place < 0.8:
        return f"{sentences[0]}. {text.text}"
    return f"{text.text} {pick.choice(sentences)}"


def _sentences(description: str) -> list[str]:
    return [sentence[:200].rstrip(".") for sentence in description.replace("\n", " ").split(". ")]


def _fit(examples: Sequence[Example], label: str) -> Fit:
    """In rounds: of an attack, only the passages that the round before took for one are learned as such."""
    negatives = [passage for each in examples if not each.label for passage in each.bag]
    positives = [each for each in examples if each.label == label]
    fitted = Fit({}, 0.0)
    for _ in range(ROUNDS):
        chosen = [
            passage
            for each in positives
            for passage in _speaking(each.bag, fitted)
            for _ in range(each.weight)
        ]
        share = _POSITIVE_SHARE[label] * len(negatives) / len(chosen)
        fitted = fit(
            [*negatives, *chosen],
            [False] * len(negatives) + [True] * len(chosen),
            [1.0] * len(negatives) + [share] * len(chosen),
            l2=_RIDGE[label],
            steps=STEPS,
            start=fitted if fitted.weights else None,
        )
    return fitted


def _speaking(tool: Bag, fitted: Fit) -> Bag:
    if not tool:
        return tool
    scores = [_score(fitted, passage) for passage in tool]
    least = min(max(scores), _LEAST_SCORE)
    return [passage for passage, score in zip(tool, scores, strict=True) if score >= least]


def _score(head: Head | Fit, passage: frozenset[int]) -> float:
    get = head.weights.get
    return head.intercept + sum(get(feature, 0.0) for feature in passage)


def _calibrated(head: Head, examples: Sequence[Example], label: str) -> Head:
    unseen: list[tuple[float, Example]] = []
    for fold in range(FOLDS):
        held = [each for each in examples if _fold(each) == fold and each.label in ("", label)]
        fitted = _fit([each for each in examples if _fold(each) != fold], label)
        unseen += [(best_score(fitted, each.bag), each) for each in held]
    scores = np.array([score for score, _ in unseen])
    target = np.array([each.label == label for _, each in unseen], dtype=float)
    slope, shift = platt(scores, target)
    head = replace(head, slope=slope, shift=shift)
    wild = sorted((score for score, each in unseen if each.is_wild), reverse=True)
    quarantine, reject = (_bound(head, wild, share[label]) for share in (HELD, REFUSED))
    return replace(head, quarantine=quarantine, reject=max(reject, quarantine) if REFUSED[label] else 1.0)


def _bound(head: Head, wild: Sequence[float], share: float) -> float:
    """The least probability that at most this share of the honest tools reach."""
    place = min(int(share * len(wild)), len(wild) - 1)
    return head.probability(wild[place] + 1e-6)


def platt(scores: Array, target: Array) -> tuple[float, float]:
    """Slope and shift from scores to log-odds, where `PRIOR` of the tools are attacks (Platt, 1999)."""
    share = np.where(target > 0, PRIOR / target.sum(), (1 - PRIOR) / (1 - target).sum())
    slope, shift = 1.0, log(PRIOR)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(slope * scores + shift, -40, 40)))
        error, curve = share * (chance - target), share * chance * (1 - chance) + 1e-12
        gradient = np.array([(error * scores).sum(), error.sum()])
        mixed = (curve * scores).sum()
        hessian = np.array([[(curve * scores**2).sum(), mixed], [mixed, curve.sum()]])
        move = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        slope, shift = slope - float(np.clip(move[0], -1, 1)), shift - float(np.clip(move[1], -2, 2))
    return max(slope, 0.05), shift


def _fold(example: Example) -> int:
    return crc32(example.group.encode()) % FOLDS
