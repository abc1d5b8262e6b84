"""What is known of one tool's executions, as something that records fold into and that merges. Pure."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Self

from mcp_federation.contract.messages import Performance, Record
from mcp_federation.errors import InvalidRequest
from mcp_federation.metrics.sketch import MAX_LATENCY_MS, new_sketch, read_sketch
from mcp_federation.records import OTHER_KIND

MAX_ERROR_KINDS = 32
"""How many kinds of error a tool has, `other` among them; the rarest beyond that become `other`."""

MAX_COST = 1e9
"""The most that one execution costs; what claims more counts as this."""

MAX_COUNT = 2**53
"""The largest whole number that every JSON reader has."""

QUANTILES = (0.5, 0.9, 0.99)

_KIND = re.compile("[a-z0-9_]{1,64}")


class Aggregate:
    """Counts, errors, costs and latencies (ms, of successful executions) of one tool.

    Merging gives the same counts in any order, and quantiles within the sketch's rank error. Every
    failure has one error kind, so `errors` add up to `count - successes`; which kinds keep their name
    where there are too many may depend on the order.
    """

    def __init__(self) -> None:
        self.count = 0
        self.successes = 0
        self.errors: Counter[str] = Counter()
        self.cost_total = 0.0
        self.latencies = new_sketch()
        self.sketch_refused = False

    @classmethod
    def of(cls, message: Performance) -> Self:
        """The aggregate behind a message, which may come from anyone.

        A sketch that is none, or of more executions than succeeded, is left out, and
        `sketch_refused` says so.

        Raises:
            InvalidRequest: the counts or costs contradict each other.
        """
        failures = message.count - message.successes
        if (
            not message.successes <= message.count <= MAX_COUNT
            or sum(message.errors.values()) != failures
            or message.cost_total > MAX_COST * message.count
        ):
            raise InvalidRequest("the performance contradicts itself")
        aggregate = cls()
        aggregate.count = message.count
        aggregate.successes = message.successes
        aggregate.cost_total = message.cost_total
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

    def add(self, record: Record) -> None:
        """Fold one outcome in. A failure's latency says nothing of the tool's speed and is left out."""
        self.count += 1
        self.cost_total += min(record.cost, MAX_COST)
        if record.success:
            self.successes += 1
            self.latencies.update(min(record.latency_ms, MAX_LATENCY_MS))
        else:
            self._add_errors([(record.error_kind or OTHER_KIND, 1)])

    def merge(self, other: "Aggregate") -> None:
        """Fold another aggregate of the same tool in; the other stays as it is."""
        self.count += other.count
        self.successes += other.successes
        self.cost_total += other.cost_total
        self.latencies.merge(other.latencies)
        self._add_errors(other.errors.items())

    def performance(self, node: str, tool: str) -> Performance:
        """The message about that tool; without latencies while nothing succeeded."""
        known = not self.latencies.is_empty()
        p50, p90, p99 = self.latencies.get_quantiles(QUANTILES) if known else (None, None, None)
        return Performance(
            node=node,
            tool=tool,
            count=self.count,
            successes=self.successes,
            errors=dict(sorted(self.errors.items())),
            latency_p50=p50,
            latency_p90=p90,
            latency_p99=p99,
            latency_sketch=self.latencies.serialize() if known else None,
            cost_total=self.cost_total,
        )

    def _add_errors(self, errors: Iterable[tuple[str, int]]) -> None:
        for kind, number in errors:
            self.errors[kind if _KIND.fullmatch(kind) else OTHER_KIND] += number
        named = sorted((-number, kind) for kind, number in self.errors.items() if kind != OTHER_KIND)
        for _, kind in named[MAX_ERROR_KINDS - 1 :]:
            self.errors[OTHER_KIND] += self.errors.pop(kind)
