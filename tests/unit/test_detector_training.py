"""How the detector is trained: from what, repeatably, and what the benchmark makes of its decisions."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.governance import bar, calibration, tally
from benchmarks.governance_rows import Outcome
from benchmarks.governance_scanners import Scanner
from mcp_federation.governance.detector.model import CAPABILITY, INSTRUCTIONS, Head, opinions
from scripts.detector.data import Row, load
from scripts.detector.fit import fit
from scripts.detector.generate import attacks, capabilities, honest
from scripts.detector.training import best_score, generated_examples, platt, real_examples, train

NAMES = ["send_email", "listTables", "get-weather"]


def a_row(
    number: int, *, kind: str = "in_the_wild", licence: str = "MIT", attack: str = "", signal: str = ""
) -> Row:
    return Row(
        id=str(number),
        name=f"get_item_{number}",
        description=f"Returns item {number} of the list.",
        input_schema=None,
        server=f"s{number}",
        source="a",
        licence=licence,
        attack=attack,
        signal=signal,
        kind="" if attack else kind,
    )


def test_the_generator_writes_the_same_for_the_same_seed_and_leaves_no_slot_open() -> None:
    texts = [text for seed in (1, 1) for text in attacks(random.Random(seed), NAMES, 30)]
    half = len(texts) // 2
    assert texts[:half] == texts[half:]
    texts += [*capabilities(random.Random(1), 30), *honest(random.Random(1), NAMES, 30)]
    assert [text.text for text in texts if re.search(r"\{[a-z]+\}|\(\w*\||  ", text.text)] == []
    assert {"precondition", "shadowing", "preference", "foreign"} <= {text.family for text in texts}
    assert {"en", "es", "zh", "ru"} <= {text.language for text in texts}


def test_what_has_no_licence_is_not_learned_from() -> None:
    rows = [
        a_row(1),
        a_row(2, licence="none stated"),
        a_row(3, licence="see repo LICENSE"),
        a_row(4, kind="dual_use_security"),
    ]
    assert [example.group for example in real_examples(rows)] == ["s1"]


def test_a_fit_finds_the_feature_that_matters_and_keeps_weights_above_the_floor() -> None:
    rows = [frozenset(row) for row in ({1, 2}, {2, 3}, {1, 3}, {3, 4})] * 25
    found = fit(rows, [1 in row for row in rows], [1.0] * len(rows), floor=-0.2)
    assert max(found.weights, key=found.weights.__getitem__) == 1
    assert min(found.weights.values()) >= -0.2
    scores = [found.intercept + sum(found.weights.get(feature, 0) for feature in row) for row in rows]
    assert min(score for score, row in zip(scores, rows, strict=True) if 1 in row) > max(
        score for score, row in zip(scores, rows, strict=True) if 1 not in row
    )


def test_probabilities_are_calibrated_to_the_prior() -> None:
    pick = random.Random(3)
    scores = np.array([pick.gauss(2, 1) for _ in range(500)] + [pick.gauss(-2, 1) for _ in range(500)])
    slope, shift = platt(scores, np.array([1.0] * 500 + [0.0] * 500))
    chance = 1 / (1 + np.exp(-(slope * scores + shift)))
    assert slope > 0
    assert 0.05 * chance[:500].mean() + 0.95 * chance[500:].mean() == pytest.approx(0.05, abs=0.005)


def test_training_on_little_tells_an_attack_from_an_honest_tool() -> None:
    rows = [a_row(number) for number in range(60)]
    heads = train([*real_examples(rows), *generated_examples(rows, each=15)])
    assert set(heads) == {INSTRUCTIONS, CAPABILITY}
    head = heads[INSTRUCTIONS]
    fresh = generated_examples(rows, seed=9, each=5)
    attack = [best_score(head, each.bag) for each in fresh if each.label == INSTRUCTIONS]
    clean = [best_score(head, each.bag) for each in real_examples(rows)]
    assert sorted(attack)[len(attack) // 4] > max(clean)
    assert head.probability(max(clean)) < 0.05
    assert heads[CAPABILITY].reject == 1.0


def test_labelled_tools_are_read_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "x_benign.jsonl").write_text(
        json.dumps({"name": "a", "description": None, "kind": "in_the_wild", "source": "s", "license": "MIT"})
    )
    (tmp_path / "queries.jsonl").write_text('{"query": "weather"}\n')
    (row,) = load(tmp_path)
    assert (row.name, row.description, row.may_train, row.attack) == ("a", "", True, "")
    with pytest.raises(ValueError, match="no labelled tools"):
        load(tmp_path / "nothing")


def test_the_benchmark_counts_what_is_held() -> None:
    attack = a_row(1, attack="tool_poisoning", signal="description")
    declared = a_row(2, attack="malicious_capability", signal="declared_capability")
    dual = a_row(3, kind="dual_use_security")
    chances = {INSTRUCTIONS: 0.99, CAPABILITY: 0.0}
    outcomes = [
        Outcome(attack, "rejected", chances, ("likely-instructions",)),
        Outcome(declared, "quarantined", chances, ()),
        Outcome(dual, "rejected", chances, ()),
        Outcome(a_row(4), "approved", {INSTRUCTIONS: 0.001, CAPABILITY: 0.001}, ()),
    ]
    assert [(each["tools"], each["held"]) for each in bar(outcomes)] == [(1, 1), (1, 1), (1, 0), (1, 1)]
    (line,) = tally(outcomes[:1], lambda row: row.attack)
    assert (line["rejected"], line["not_approved"]) == (1, 1)
    assert calibration(outcomes)[-1] == {"from": 0.95, "to": 1.0, "tools": 2, "mean": 0.99, "attacks": 1}


def test_a_scanner_that_is_not_installed_says_so() -> None:
    assert (
        Scanner("x", lambda _: set(), module="no_such_module_anywhere").absent()
        == "no module no_such_module_anywhere"
    )
    assert Scanner("x", lambda _: set(), module="json").absent() == ""


def test_a_head_has_no_opinion_of_nothing() -> None:
    assert opinions({"a": Head({}, 0.0)}, []) == {}
