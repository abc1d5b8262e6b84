"""What learning from others is worth: `python benchmarks/learning.py [--seed N] [--repeats N] [--json FILE]`.

A seeded simulation of organisations that call tools, of which each has several providers, on the engine's own
predictor, privacy and metrics code. Who calls takes the provider that the engine would recommend for the
balanced objective, and learns from what became of it; the oracle knows the true figures. Regret is the
oracle's expected value minus that of the provider taken, summed over the calls. The arms:

    alone       each organisation learns from its own calls only, and explores at the full rate
    records     every record is shared
    statistics  only what the default policy lets out: 20 executions or more, noise at epsilon = 1; it goes
                through the code that releases it, with noise of OpenDP's distribution that can be seeded
    ... lying   one organisation in ten reports itself perfect and its rivals broken, all the time, in either
                arm at once and without the noise that the honest add

The world: one provider in five succeeds with Beta(2, 3), the others with Beta(8, 2); latencies are log-normal
with sigma 0.5 and medians log-uniform from 20 ms to 5 s; tools are asked for by Zipf's law, a call a second.
Half-way one provider in ten breaks and succeeds with 0.2 from then on. Releases leave each second, as they do
from a process; everybody has heard of them within five.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, its siblings are a package

from rich.console import Console
from rich.table import Table

from benchmarks.report import WIDTH, number
from mcp_federation.contract.messages import Record, Tally
from mcp_federation.engine.choice.predictor import PerformancePredictor, Place
from mcp_federation.engine.choice.worth import Candidate, Explorer, Objective, rank, utility
from mcp_federation.estimation import student_quantile, tally_of
from mcp_federation.metrics.recent import RecentReports
from mcp_federation.privacy.release import Gatherer
from mcp_federation.privacy.sharing import SharingPolicy

OBJECTIVE = Objective.BALANCED
ARMS = ("alone", "records", "statistics", "records, lying", "statistics, lying")
HEARD_EVERY = 5
"""Seconds until everybody has heard what was reported."""

LIE_EVERY = 10
LIES = 20
"""Every so many seconds, a liar reports so many executions of each tool that it has."""


@dataclass(frozen=True)
class World:
    """The size of a simulation, and its seed."""

    seed: int = 1
    organisations: int = 20
    tools: int = 10
    providers: int = 6
    calls: int = 1000
    liars: float = 0.1


@dataclass
class Provider:
    """One organisation's offer of one tool, as it truly is."""

    tool: int
    node: str
    success: float
    log_median: float

    @property
    def name(self) -> str:
        return f"t{self.tool}@{self.node}"

    @property
    def value(self) -> float:
        return utility(OBJECTIVE, self.success, math.exp(self.log_median), 0.0)

    def call(self, random: Random) -> tuple[bool, float]:
        return random.random() < self.success, random.lognormvariate(self.log_median, 0.5)


@dataclass
class SeededNoise:
    """The distribution of OpenDP's noise from a generator that can be seeded, which OpenDP's cannot."""

    random: Random

    def draw(self, scale: float) -> int:
        return self._geometric(scale) - self._geometric(scale)

    def _geometric(self, scale: float) -> int:
        return math.floor(self.random.expovariate(1 / scale))


@dataclass
class Mesh:
    """What is shared: tallies by reporter of each provider, as the metrics worker keeps them."""

    policy: SharingPolicy | None
    noise: "SeededNoise"
    recent: dict[str, RecentReports] = field(default_factory=dict)
    gatherers: dict[str, Gatherer] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)

    def report(self, reporter: str, provider: Provider, record: Record) -> None:
        if self.policy is None:
            return
        if self.policy.sharing == "records":
            self.take(reporter, provider.name, provider.node, [tally_of(record)])
            return
        gatherer = self.gatherers.get(reporter)
        if gatherer is None:
            gatherer = self.gatherers[reporter] = Gatherer(self.policy, self.noise)
        gatherer.add(record)

    def release(self, now: float) -> None:
        """Let out what may leave every organisation."""
        for reporter, gatherer in self.gatherers.items():
            for released in gatherer.release(now):
                self.take(reporter, f"{released.tool}@{released.node}", released.node, [released.tally])

    def take(self, reporter: str, name: str, node: str, tallies: Sequence[Tally]) -> None:
        self.recent.setdefault(name, RecentReports(node)).add(reporter, tallies)
        self.changed[name] = None

    def hand_out(self, predictors: Mapping[str, PerformancePredictor]) -> None:
        """Let every organisation read what changed; nobody hears its own reports."""
        for name in self.changed:
            node = name.rpartition("@")[2]
            for organisation, predictor in predictors.items():
                reports = {
                    reporter: tally
                    for reporter, tally in self.recent[name].by_reporter.items()
                    if reporter != organisation
                }
                predictor.report(name, node, reports)
        self.changed.clear()


class Simulation:
    """One arm over one world: the same tools, providers and requests in every arm."""

    def __init__(self, world: World, arm: str) -> None:
        self.world = world
        self.random = Random(world.seed)
        self.nodes = [f"org{number}" for number in range(world.organisations)]
        self.offers = [self._providers(tool) for tool in range(world.tools)]
        self.weights = list(accumulate(1 / rank for rank in range(1, world.tools + 1)))
        self.mesh = Mesh(_policy(arm), SeededNoise(Random(world.seed + 2)))
        count = max(1, round(world.liars * len(self.nodes)))
        self.liars = self.nodes[:count] if "lying" in arm else []
        self.now = 0.0
        self.predictors = {node: PerformancePredictor(lambda: self.now) for node in self.nodes}
        self.explorers = {node: Explorer(random=Random(f"{world.seed} {node}")) for node in self.nodes}
        for predictor in self.predictors.values():
            for offer in self._all():
                predictor.put(offer.name, Place(f"s{offer.tool % 4}", offer.node, "any", f"t{offer.tool}"))
        self.calling = Random(world.seed + 1)

    def regrets(self) -> Iterator[float]:
        """The regret of each round of calls, one by each honest organisation, per call."""
        for turn in range(self.world.calls):
            self.now += 1.0
            if turn == self.world.calls // 2:
                self._break_some()
            lost = [self._call(node) for node in self.nodes if node not in self.liars]
            self.mesh.release(self.now)
            if turn % LIE_EVERY == 0:
                self._lie()
            if turn % HEARD_EVERY == 0:
                self.mesh.hand_out(self.predictors)
            yield statistics.fmean(lost)

    def _call(self, node: str) -> float:
        wanted = self.calling.random() * self.weights[-1]
        offers = self.offers[next(tool for tool, weight in enumerate(self.weights) if wanted <= weight)]
        by_name = {offer.name: offer for offer in offers}
        predictor = self.predictors[node]
        candidates = [Candidate(name, 1.0, predictor.predict(name)) for name in by_name]
        ranked = rank(candidates, OBJECTIVE)
        first = self.explorers[node].explore(ranked, OBJECTIVE, predictor.explorers)[0]
        chosen = by_name[first.candidate.name]
        success, latency = chosen.call(self.calling)
        predictor.observe(chosen.name, success=success, latency_ms=latency)
        record = Record(node=chosen.node, tool=f"t{chosen.tool}", success=success, latency_ms=latency)
        self.mesh.report(node, chosen, record)
        if chosen.node != node and chosen.node not in self.liars:
            self.mesh.report(chosen.node, chosen, record)
        return max(offer.value for offer in offers) - chosen.value

    def _lie(self) -> None:
        """Each liar praises its own tools, and smears the rivals it has for them."""
        if self.mesh.policy is None:
            return
        perfect = tally_of(Record(node="x", tool="x", success=True, latency_ms=1.0))
        failure = Tally(count=1.0)
        for liar in self.liars:
            for offers in self.offers:
                if any(offer.node == liar for offer in offers):
                    for offer in offers:
                        tally = perfect if offer.node == liar else failure
                        self.mesh.take(liar, offer.name, offer.node, [tally] * LIES)

    def _providers(self, tool: int) -> list[Provider]:
        random = self.random
        return [
            Provider(
                tool,
                node,
                random.betavariate(2, 3) if random.random() < 0.2 else random.betavariate(8, 2),
                random.uniform(math.log(20), math.log(5000)),
            )
            for node in random.sample(self.nodes, self.world.providers)
        ]

    def _break_some(self) -> None:
        for offer in self._all():
            if self.random.random() < 0.1:
                offer.success = 0.2

    def _all(self) -> Iterator[Provider]:
        return (offer for offers in self.offers for offer in offers)


def _policy(arm: str) -> SharingPolicy | None:
    kind = arm.partition(",")[0]
    if kind == "alone":
        return None
    return SharingPolicy(sharing="records") if kind == "records" else SharingPolicy()


def simulate(world: World, arms: Sequence[str] = ARMS, repeats: int = 1) -> dict[str, Any]:
    """The regret of an organisation in each arm, after so many calls, in each of so many worlds.

    `of_alone` is the share of what learning alone costs in the same world, where that arm is among them.
    """
    marks = sorted({min(mark, world.calls) for mark in (100, 250, 500, world.calls)})
    found: dict[str, Any] = {}
    for arm in arms:
        began = time.perf_counter()
        worlds = [replace(world, seed=seed) for seed in _seeds(world, repeats)]
        totals = [list(accumulate(Simulation(varied, arm).regrets())) for varied in worlds]
        regret = {str(mark): [each[mark - 1] for each in totals] for mark in marks}
        alone = found["alone"]["regret"] if "alone" in found else {}
        found[arm] = {
            "regret": regret,
            "of_alone": {
                mark: [one / other for one, other in zip(regret[mark], alone[mark], strict=True)]
                for mark in alone
            },
            "seconds": round(time.perf_counter() - began, 1),
        }
    return found


def _seeds(world: World, repeats: int) -> list[int]:
    """Of the worlds that differ in their seed."""
    return [world.seed + 100 * repeat for repeat in range(repeats)]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval by Student's t over the worlds; nan of a single one."""
    if len(values) < 2:
        return values[0], math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), spread * student_quantile(0.975, len(values) - 1)


def print_figures(console: Console, world: World, repeats: int, found: Mapping[str, Any]) -> None:
    """A row for each arm."""
    title = (
        f"regret of one organisation, of {world.organisations}, after so many calls;"
        f" means of {repeats} worlds from seed {world.seed} on, with 95 % intervals"
    )
    marks = list(next(iter(found.values()))["regret"])
    table = Table("arm", *marks, "% of alone", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for arm, figures in found.items():
        shares = [100 * share for share in figures["of_alone"].get(marks[-1], [])]
        cells = [_with_interval(figures["regret"][mark], 1) for mark in marks]
        table.add_row(arm, *cells, _with_interval(shares, 0) if shares else "")
    console.print(table)


def _with_interval(values: Sequence[float], digits: int) -> str:
    mean, half = interval(values)
    return number(mean, digits) + ("" if math.isnan(half) else f" ± {number(half, digits)}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", type=int, default=1000, help="calls of each organisation")
    parser.add_argument("--organisations", type=int, default=World.organisations)
    parser.add_argument("--repeats", type=int, default=8, help="worlds, each with a seed of its own")
    parser.add_argument("--arm", action="append", default=[], choices=ARMS, help="only this arm")
    chosen = parser.parse_args(argv)
    world = World(seed=chosen.seed, calls=chosen.calls, organisations=chosen.organisations)
    found = simulate(world, chosen.arm or ARMS, chosen.repeats)
    print_figures(Console(width=WIDTH), world, chosen.repeats, found)
    if chosen.json:
        figures = {"world": vars(world), "seeds": _seeds(world, chosen.repeats), "arms": found}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
