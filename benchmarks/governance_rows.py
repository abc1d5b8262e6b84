"""What governance decides about labelled tools, by models that have not seen the source of any of them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import msgspec

from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.messages import Registration
from mcp_federation.governance.checks.reading import Reading, read
from mcp_federation.governance.detector.model import CAPABILITY, INSTRUCTIONS, Head, heads, opinions
from mcp_federation.governance.detector.passages import passages
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import security_suite
from mcp_federation.governance.verdict import decide, judge
from scripts.detector.data import DECLARED, Row
from scripts.detector.training import best_score, generated_examples, real_examples, train, train_head

Say = Callable[[str], None]
Heads = Mapping[str, Head]


WARM_UP: Final = 200
"""Tools judged before the clock starts."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Verdicts a second of processor time, and the milliseconds of it that half of them take at the most."""

    per_second: float
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A labelled tool, the decision on it, and the probabilities that the model gives it."""

    row: Row
    decision: str
    probability: Mapping[str, float]
    rules: tuple[str, ...]

    @property
    def is_held(self) -> bool:
        return self.decision != "approved"


def decided(rows: Iterable[Row], heads: Heads) -> list[Outcome]:
    """What all checks say with these heads of the model."""
    security = security_suite(heads)
    return [
        _outcome(row, heads, security.run(reading), reading)
        for row in rows
        for reading in [read(row.registration())]
    ]


def _outcome(row: Row, heads: Heads, findings: list[Any], reading: Reading) -> Outcome:
    findings = [*findings, *QUALITY.run(reading)]
    grave = [finding.rule for finding in findings if finding.severity in ("critical", "high", "medium")]
    chances = {name: opinion.probability for name, opinion in opinions(heads, passages(reading)).items()}
    return Outcome(row, decide(findings), chances, tuple(dict.fromkeys(grave)))


def as_shipped(rows: Sequence[Row]) -> list[Outcome]:
    """By the weights in the package, which may have seen some of the rows."""
    return decided(rows, heads())


def leave_one_source_out(rows: Sequence[Row], say: Say) -> list[Outcome]:
    """Each source judged by a model trained without it; those that nothing is learned from, by one model."""
    learned = {row.source for row in rows if row.may_train}
    known = [(row.source, example) for row in rows for example in real_examples([row])]
    outcomes = []
    for source in [*sorted(learned), ""]:
        say(f"training without {source or 'what nothing may be learned from'}")
        rest = [row for row in rows if row.source != source]
        heads = train([*(each for origin, each in known if origin != source), *generated_examples(rest)])
        outcomes += decided(
            [row for row in rows if (row.source if row.source in learned else "") == source], heads
        )
    return outcomes


def leave_family_out(rows: Sequence[Row], say: Say) -> dict[str, tuple[int, int]]:
    """By family of generated attacks: how many are held by a model that never saw the family, of how many."""
    examples = [*real_examples(rows), *generated_examples(rows)]
    fresh = generated_examples(rows, seed=7, each=100)
    found = {}
    for label, group in sorted({(each.label, each.group) for each in fresh if each.label}):
        family = f"{label}: {group}"
        say(f"training without {family}")
        tools = [each for each in fresh if (each.label, each.group) == (label, group)]
        trained = train_head([each for each in examples if each.group != group], label)
        chances = [trained.probability(best_score(trained, each.bag)) for each in tools]
        found[family] = (sum(chance >= trained.quarantine for chance in chances), len(tools))
    return found


def speed(rows: Sequence[Row], seconds: float = 5.0) -> Speed:
    """Verdicts as a worker gives them but for the signature and the bus, on no tool twice."""
    registrations = [_as_sent(row) for row in rows]
    for registration in registrations[:WARM_UP]:
        judge(registration)
    took: list[float] = []
    for registration in registrations[WARM_UP:] or registrations:
        start = time.process_time()
        judge(registration)
        took.append(time.process_time() - start)
        if sum(took) > seconds:
            break
    return Speed(len(took) / sum(took), median(took) * 1000)


def _as_sent(row: Row) -> Registration:
    """The registration as a node sends it: the tool in canonical form, with its digest."""
    registration = row.registration()
    tool = canonical_tool(registration.tool)
    return msgspec.structs.replace(registration, tool=tool, digest=tool_digest(tool))


def label_of(row: Row) -> str:
    """Which head has to find it; empty for honest tools."""
    if not row.attack:
        return ""
    return CAPABILITY if row.signal == DECLARED else INSTRUCTIONS
