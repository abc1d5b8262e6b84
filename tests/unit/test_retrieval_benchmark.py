"""The benchmark of retrieval: how it reads sets, what it calls good. How good anything is nobody asserts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.retrieval_data import Request, RetrievalSet, load_sets, many
from benchmarks.retrieval_metrics import complete, ndcg, quality, recall
from benchmarks.retrieval_systems import Engine, Fused, PlainBM25, Searching
from benchmarks.retrieval_worker import alone
from mcp_federation.engine.documents import what_tool

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [
    {"tool_id": "a/pack", "name": "pack", "server": "a", "description": "Pack files into an archive."},
    {"tool_id": "b/rain", "name": "get_rain", "server": "b", "description": "The weather of a city."},
    {
        "tool_id": "7",
        "name": "/v1/fetch",
        "server": "Recipes",
        "description": "Get",
        "params_text": '[{"name": "dish", "type": "str", "description": "Its name"}], return_schema: '
        '{"name": "no parameter", "description": ""}',
    },
]
QUERIES: list[dict[str, Any]] = [
    {"query": "pack the files", "relevant": ["a/pack"], "relevant_groups": [["a/pack"]]},
    {"query": "the weather and a dish", "relevant": ["b/rain", "7"]},
]


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"retrieval_{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "small_tools", TOOLS)
    write(tmp_path, "small_queries", QUERIES)
    write(tmp_path, "small_multi_queries", QUERIES[1:])
    return tmp_path


def loaded(folder: Path) -> RetrievalSet:
    return load_sets(folder, ["small"])[0]


def test_every_set_of_a_folder_is_read_and_one_without_tools_has_those_of_its_first_words(
    folder: Path,
) -> None:
    assert [(data.name, len(data.tools), len(data.requests)) for data in load_sets(folder)] == [
        ("small", 3, 2),
        ("small_multi", 3, 1),
    ]
    assert len(load_sets(folder, ["small"], sample=1)[0].requests) == 1
    with pytest.raises(FileNotFoundError, match="large"):
        load_sets(folder, ["large"])


def test_groups_are_those_of_the_row_or_else_each_relevant_tool_is_one(folder: Path) -> None:
    one, two = loaded(folder).requests
    assert one.groups == (frozenset({"a/pack"}),)
    assert set(two.groups) == {frozenset({"b/rain"}), frozenset({"7"})}


def test_a_row_becomes_a_spec_whose_parameters_are_those_of_its_text_where_it_has_no_schema(
    folder: Path,
) -> None:
    specs = loaded(folder).specs()
    assert list(specs[2].metadata["input_schema"]["properties"]) == ["dish"]
    assert len({spec.name for spec in specs}) == 3
    assert list(loaded(folder).ids().values()) == ["a/pack", "b/rain", "7"]


def test_the_metrics_are_those_of_the_books() -> None:
    request = Request("", frozenset("ab"), (frozenset("ab"), frozenset("cd")))
    assert recall("xab", request, 2) == 0.5
    assert ndcg("ab", request) == 1.0
    assert ndcg("xa", request) == pytest.approx((1 / 1.5849625) / (1 + 1 / 1.5849625))
    assert complete("axd", request)
    assert not complete("abx", request)
    assert quality(["ab", "xx"], [request, request]).ndcg_10 == 0.5


def test_each_system_finds_the_tool_that_has_the_words(folder: Path) -> None:
    data = loaded(folder)
    specs, ids = data.specs(), data.ids()
    engine = Engine(specs)
    for system in (engine, Searching(specs), PlainBM25(specs), Fused(engine, PlainBM25(specs))):
        assert ids[system.search("pack files", 2)[0]] == "a/pack"
    engine.close()


def test_many_tools_are_different_ones_and_the_speed_over_them_is_measured(folder: Path) -> None:
    specs, asked = many(folder, 8, 4)
    assert len({(spec.name, spec.metadata["server"]) for spec in specs}) == 8
    assert len({what_tool(spec) for spec in specs}) == 8
    assert len(asked) == 4
    speed = alone("many_tools", folder=str(folder), tools=8, cache=str(folder / "cache"), requests=4)
    assert all(figure > 0 for figure in speed.values())
    assert list((folder / "cache").iterdir())


def test_it_runs_as_a_file_and_writes_what_it_measured_and_what_is_not_installed(folder: Path) -> None:
    figures = folder / "figures.json"
    done = subprocess.run(
        [
            *(sys.executable, "benchmarks/retrieval.py", "--data", folder, "--set", "small"),
            *("--json", figures, "--system", "engine", "--system", "WordLlama 256d", "--tools", "0"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "nDCG@10" in done.stdout
    rows = json.loads(figures.read_text())["sets"]["small"]
    assert rows["engine"]["recall_10"] == 1.0
    assert rows["engine"]["memory_mib"] > 0
    assert "missing" in rows["WordLlama 256d"] or rows["WordLlama 256d"]["recall_10"] == 1.0


def test_a_folder_without_sets_is_said_to_hold_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/retrieval.py", "--data", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "holds no set" in done.stdout
