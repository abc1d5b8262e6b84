"""The simulation of learning: seeded, and sound in a small world; how good anything is nobody asserts."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from benchmarks.learning import ARMS, SeededNoise, Simulation, World, interval, main
from mcp_federation.privacy.noise import LaplaceNoise

SMALL = World(organisations=4, tools=2, providers=3, calls=40)


@pytest.mark.parametrize("arm", ARMS)
def test_the_same_seed_gives_the_same_regret_which_is_never_negative(arm: str) -> None:
    first = list(Simulation(SMALL, arm).regrets())
    assert first == list(Simulation(SMALL, arm).regrets())
    assert len(first) == SMALL.calls
    assert all(regret >= 0 for regret in first)


def test_the_order_of_a_set_which_differs_by_process_does_not_matter() -> None:
    code = (
        "from benchmarks.learning import Simulation, World\n"
        "world = World(organisations=8, tools=4, providers=4, calls=150, liars=0.3)\n"
        "print(list(Simulation(world, 'records, lying').regrets()))"
    )
    root = Path(__file__).resolve().parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=root,
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_another_seed_is_another_world() -> None:
    other = World(**{**vars(SMALL), "seed": 2})
    assert list(Simulation(SMALL, "alone").regrets()) != list(Simulation(other, "alone").regrets())


def test_what_is_shared_is_learned_by_others_and_alone_nothing_is() -> None:
    for arm, shared in (("alone", False), ("records", True)):
        simulation = Simulation(SMALL, arm)
        list(simulation.regrets())
        assert bool(simulation.mesh.recent) == shared


def test_it_prints_a_table_and_writes_the_same_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "figures.json"
    main(
        [
            "--calls",
            "20",
            "--repeats",
            "5",
            "--organisations",
            "6",
            "--arm",
            "alone",
            "--arm",
            "records",
            "--json",
            str(written),
        ]
    )
    figures = json.loads(written.read_text())
    assert set(figures["arms"]) == {"alone", "records"}
    assert figures["world"]["calls"] == 20
    assert figures["seeds"] == [1, 101, 201, 301, 401]
    regrets = figures["arms"]["records"]["regret"]["20"]
    alone = figures["arms"]["alone"]["regret"]["20"]
    assert figures["arms"]["records"]["of_alone"]["20"] == [
        a / b for a, b in zip(regrets, alone, strict=True)
    ]
    mean, half = interval(regrets)
    assert f"{mean:.1f} ± {half:.1f}" in capsys.readouterr().out


def test_its_noise_is_distributed_as_that_which_is_released() -> None:
    scale = 128.0
    for noise in (SeededNoise(Random(1)), LaplaceNoise()):
        drawn = [noise.draw(scale) for _ in range(2000)]
        for times in (-2.0, -1.0, 0.0, 1.0, 2.0):
            within = math.exp(-abs(times)) / 2  # of Laplace's distribution, beyond so many scales
            share = sum(draw <= times * scale for draw in drawn) / len(drawn)
            assert share == pytest.approx(within if times <= 0 else 1 - within, abs=0.06)


def test_the_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3
    assert half == pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=0.01)
    assert math.isnan(interval([1.0])[1])
