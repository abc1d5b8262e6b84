"""What is known of one tool's executions, as something that records fold into and that merges. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import Self

from mcp_federation.contract.messages import Performance, Record, Tally
from mcp_federation.errors import InvalidRequest
from mcp_federation.estimation import LATENCY_PRIOR, MAX_COST, evidence, tally_of
from mcp_federation.metrics.recent import RecentReports
from mcp_federation.metrics.replay import ReplayWindow
from mcp_federation.metrics.sketch import MAX_LATENCY_MS, new_sketch, read_sketch
from mcp_federation.privacy.records import OTHER_KIND, known_kind

MAX_COUNT = 2**53
"""The largest whole number that every JSON reader has."""

QUANTILES = (0.5, 0.9, 0.99)


class Aggregate:
    """Counts, errors, costs and latencies (ms, of successful executions) of one tool.

    The counts are the same in whatever order things fold in, and the quantiles within the sketch's rank
    error. Every failure has one error kind, so `errors` add up to `count - successes`.
    """

    def __init__(self, node: str, tool: str) -> None:
        self.node = node
        self.tool = tool
        self.count = 0
        self.successes = 0
        self.errors: Counter[str] = Counter()
        self.cost_total = 0.0
        self.observed = 0
        self.latencies = new_sketch()
        self.sketch_refused = False
        self.recent = RecentReports(node)
        self.folded = ReplayWindow()

    @classmethod
    def of(cls, message: Performance) -> Self:
        """The aggregate behind a message, which may come from anyone.

        A sketch that is none, or of more executions than succeeded, is left out, and
        `sketch_refused` says so.

        Raises:
            InvalidRequest: the counts contradict each other.
        """
        failures = message.count - message.successes
        if (
            not message.successes <= message.count <= MAX_COUNT
            or sum(message.errors.values()) != failures
            or message.observed > message.count
        ):
            raise InvalidRequest("the performance contradicts itself")
        aggregate = cls(message.node, message.tool)
        aggregate.count = message.count
        aggregate.successes = message.successes
        aggregate.cost_total = min(message.cost_total, MAX_COST * message.count)
        aggregate.observed = message.observed
        aggregate.recent = RecentReports(message.node, message.recent)
        aggregate.folded = ReplayWindow.of(message.folded_last, message.folded)
        aggregate._add_errors(message.errors.items())
        if message.latency_sketch is not None:
            try:
                sketch = read_sketch(message.latency_sketch)
            except InvalidRequest:
                aggregate.sketch_refused = True
            else:
                aggregate.sketch_refused = sketch.n > message.successes
                aggregate.latencies = new_sketch() if aggregate.sketch_refused else sketch
        return aggregate

    def add(self, reporter: str, records: Iterable[Record]) -> None:
        """Fold outcomes in. A failure's latency says nothing of the tool's speed and is left out."""
        tallies = []
        for record in records:
            tallies.append(tally_of(record))
            self.cost_total += min(record.cost, MAX_COST)
            if record.success:
                self.latencies.update(min(record.latency_ms, MAX_LATENCY_MS))
            else:
                self._add_errors([(record.error_kind, 1)])
        self._count(reporter, len(tallies), round(sum(tally.successes for tally in tallies)))
        self.recent.add(reporter, tallies)

    def add_statistics(self, reporter: str, tally: Tally) -> None:
        """Fold in what a reporter released instead of records; whole numbers as near as they can be."""
        count = round(tally.count)
        successes = min(max(round(tally.successes), 0), count)
        self._count(reporter, count, successes)
        self.cost_total += min(max(tally.cost, 0.0), MAX_COST * count)
        if count > successes:
            self._add_errors([(OTHER_KIND, count - successes)])
        self.recent.add(reporter, [tally])

    def performance(self) -> Performance:
        """The message about the tool; without latencies while nothing succeeded."""
        known = not self.latencies.is_empty()
        p50, p90, p99 = self.latencies.get_quantiles(QUANTILES) if known else self._expected_quantiles()
        return Performance(
            node=self.node,
            tool=self.tool,
            count=self.count,
            successes=self.successes,
            errors=dict(sorted(self.errors.items())),
            latency_p50=p50,
            latency_p90=p90,
            latency_p99=p99,
            latency_sketch=self.latencies.serialize() if known else None,
            cost_total=self.cost_total,
            observed=self.observed,
            recent=self.recent.by_reporter,
            folded_last=self.folded.last,
            folded=self.folded.bitmap,
        )

    def _count(self, reporter: str, count: int, successes: int) -> None:
        self.count += count
        self.successes += successes
        if reporter != self.node:
            self.observed += count

    def _expected_quantiles(self) -> tuple[float | None, ...]:
        """Statistics have no sketch: what the estimate expects."""
        if not self.successes:
            return None, None, None
        belief = LATENCY_PRIOR.updated(evidence(self.node, self.recent.by_reporter))
        return tuple(belief.quantile(quantile) for quantile in QUANTILES)

    def _add_errors(self, errors: Iterable[tuple[str | None, int]]) -> None:
        for kind, number in errors:
            self.errors[known_kind(kind)] += number
