"""What is told of executions, and what is known of each tool's."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from mcp_federation.contract.messages.codec import Message, decode_by
from mcp_federation.contract.messages.fields import Count, LocalName, NodeName, NonNegative

Sum = Annotated[float, Meta(ge=-1e15, le=1e15)]
Variance = Annotated[float, Meta(ge=0, le=1e15)]


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One anonymised execution outcome. Latency in ms, cost in the publisher's currency."""

    node: NodeName
    tool: LocalName
    success: bool
    latency_ms: NonNegative
    cost: NonNegative = 0.0
    error_kind: Annotated[str, Meta(max_length=64)] | None = None


class RecordBatch(Message, frozen=True, kw_only=True, tag="records"):
    """Records in one message; they carry no times, and the batch hides the exact ones."""

    records: Annotated[tuple[Record, ...], Meta(max_length=1000)]


class Tally(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sums over executions of one tool, from which its success and latency are estimated; tallies add up.

    `log_latency` sums ln(latency in ms) over what succeeded, each in [0, ln 300,000], and
    `log_latency_squares` the squares. Where privacy added noise, a sum may lie beyond what a true one
    can be; `noise` is the variance that it added to `successes`, `log_noise` to `log_latency`.
    """

    count: Annotated[float, Meta(ge=0, le=1e9)]
    successes: Sum = 0.0
    log_latency: Sum = 0.0
    log_latency_squares: Sum = 0.0
    cost: Sum = 0.0
    noise: Variance = 0.0
    log_noise: Variance = 0.0


class Statistics(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one reporter releases of a tool instead of records."""

    node: NodeName
    tool: LocalName
    tally: Tally


class StatisticsBatch(Message, frozen=True, kw_only=True, tag="statistics"):
    """Statistics in one message, each about at least as many executions as the reporter's policy says."""

    statistics: Annotated[tuple[Statistics, ...], Meta(max_length=1000)]


class Performance(Message, frozen=True, kw_only=True, tag="performance"):
    """What is known of one tool's executions. Latencies in ms.

    `count` are reports: an execution that its caller and the tool's own node report is in it twice.
    `observed` of them are by others than the tool's own node. `recent` has, by the node that reported them,
    the latest executions; the older one is, the less it counts.

    `latency_sketch` is a serialised KLL sketch of doubles (base64): two of them merge, their quantiles
    do not. None while no record of a success came in.

    `folded` are the messages of the metrics stream that are in here, so that none counts twice: bit i
    (of the little-endian bytes) stands for the sequence `folded_last` - i.
    """

    node: NodeName
    tool: LocalName
    count: Count
    successes: Count
    errors: dict[str, Count] = field(default_factory=dict)
    latency_p50: NonNegative | None = None
    latency_p90: NonNegative | None = None
    latency_p99: NonNegative | None = None
    latency_sketch: bytes | None = None
    cost_total: NonNegative = 0.0
    observed: Count = 0
    recent: dict[NodeName, Tally] = field(default_factory=dict)
    folded_last: Count = 0
    folded: bytes = b""


MetricsMessage = RecordBatch | StatisticsBatch

_decoder: msgspec.json.Decoder[MetricsMessage] = msgspec.json.Decoder(MetricsMessage)


def decode_metrics(payload: bytes) -> MetricsMessage:
    """What a reporter tells of executions.

    Raises:
        InvalidRequest: the payload is neither records nor statistics.
    """
    return decode_by(_decoder, payload)
