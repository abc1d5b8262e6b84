"""The messages on the wire: JSON objects with a `type`, frozen here, tolerant of fields they do not know.

Arguments and results are not among them: an execute request carries MCP's own `tools/call` params and
its answer MCP's own `CallToolResult` (or an `ErrorReply`).
"""

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from mcp_federation.errors import FederationError, InternalError, InvalidRequest, error_from

PROTOCOL_VERSION = 1

Text = Annotated[str, Meta(max_length=100_000)]
# `$` alone also matches before a line feed at the end; `\Z` is not JSON Schema's.
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")]
NodeName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$(?!\n)")]
LocalName = Annotated[str, Meta(min_length=1, max_length=256)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Sum = Annotated[float, Meta(ge=-1e15, le=1e15)]
Variance = Annotated[float, Meta(ge=0, le=1e15)]

if TYPE_CHECKING:
    MaybeRaw = Raw | None
else:
    MaybeRaw = Raw  # in a union msgspec forgets Raw, and takes nothing but null

Decision = Literal["approved", "quarantined", "rejected"]
Ruled = Literal["approved", "rejected", "revoked"]
Severity = Literal["info", "low", "medium", "high", "critical"]


class Tool(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """All that a model or a caller can see of a tool; what the digest covers.

    The fields are MCP's own, in alphabetical order: encoded, a tool with canonical schemas is itself
    canonical JSON. As canonical JSON sorts keys, `parameters` keeps the input properties in the order
    that the server gave them, in which positional arguments are mapped.
    """

    annotations: MaybeRaw = None
    description: Text = ""
    input_schema: Raw = field(default_factory=lambda: Raw(b"{}"))  # a factory: MCP never omits it
    name: LocalName
    output_schema: MaybeRaw = None
    parameters: tuple[str, ...] = ()
    title: Text | None = None
    version: Annotated[str, Meta(max_length=256)] = "0.0.0"


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """The base of every message; `type` is the wire name of the class."""


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a check found: which rule, how bad, where, why, and how to mend it.

    A finding of the detector also says how probable it holds that the text is an attack, and by which words.
    """

    rule: str
    severity: Severity
    where: str
    why: str
    remedy: str
    probability: Ratio | None = None
    words: tuple[str, ...] = ()


class Registration(Message, frozen=True, kw_only=True, tag="registration"):
    """A node's request to have one tool published. `instance` is the process that asks, for a probe."""

    node: NodeName
    tool: Tool
    digest: Digest
    server: Text = ""
    executable: bool = True
    source_repo: Text | None = None
    server_url: Text | None = None
    instance: str = ""


class Probe(Message, frozen=True, kw_only=True, tag="probe"):
    """Governance's question to the process that registers a tool: is its server there, and lists it so?"""

    name: LocalName
    call_read_only: bool = False


class ProbeAnswer(Message, frozen=True, kw_only=True, tag="probe_answer"):
    """What the node found: the digest that the server lists now (None: no such tool), and how long it took.

    `problem` says why the server could not be asked; `call_problem` what went wrong when a read-only tool
    was called.
    """

    digest: Digest | None = None
    list_ms: NonNegative = 0.0
    call_ms: NonNegative | None = None
    problem: str = ""
    call_problem: str = ""


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place of a tool's text that is not what was approved last; None where there is nothing."""

    where: str
    before: str | None = None
    after: str | None = None


class Assessment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What governance saw in a tool that it approved: so that a consumer may hold a stricter policy.

    `checks` are the suites that ran. `reviewer` is the person who approved what the policy would not.
    """

    findings: tuple[Finding, ...] = ()
    checks: tuple[str, ...] = ()
    reviewer: str = ""


class Verdict(Message, frozen=True, kw_only=True, tag="verdict"):
    """Governance's answer. `approval` is there exactly when the decision is `approved`.

    `reasons` say in plain words what led to it, `changes` how the tool differs from what was approved
    last. `assessment` is the encoded `Assessment` that the approval covers, for the catalog entry.
    """

    node: NodeName
    name: LocalName
    digest: Digest
    decision: Decision
    findings: tuple[Finding, ...] = ()
    approval: str | None = None
    reasons: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    checks: tuple[str, ...] = ()
    reviewer: str = ""
    assessment: MaybeRaw = None


class CatalogEntry(Message, frozen=True, kw_only=True, tag="catalog_entry"):
    """A published tool. Without `execute_subject` it is described only.

    `assessment` is the verdict's, byte by byte: the approval covers its hash.
    """

    node: NodeName
    tool: Tool
    digest: Digest
    approval: str
    assessment: MaybeRaw = None
    execute_subject: str | None = None
    server: Text = ""
    source_repo: Text | None = None


SERVER_DOWN: Final = "its MCP server is down"
"""The reason of a withdrawal that says nothing of the tool, nor of the node's other replicas."""


class Withdrawal(Message, frozen=True, kw_only=True, tag="withdrawal"):
    """The tool is no longer published; stands in the catalog in the entry's place."""

    node: NodeName
    name: LocalName
    reason: Text = ""


class Ruling(Message, frozen=True, kw_only=True, tag="ruling"):
    """What a person decided on a tool: the last word on that digest, signed by governance.

    Every approval of the tool that was issued until `revoked_before` (Unix seconds) is void. `at` is in
    Unix seconds too, `id` the id of the command that brought it. `seal` is a JWT over all of it.
    """

    node: NodeName
    name: LocalName
    digest: Digest
    decision: Ruled
    by: Text
    reason: Text = ""
    at: NonNegative
    id: str = ""
    rules: tuple[str, ...] = ()
    revoked_before: NonNegative = 0.0
    seal: str = ""


class Case(Message, frozen=True, kw_only=True, tag="case"):
    """What governance knows of one tool: the text that it approved last, its last verdict, a person's ruling.

    `pending` is the text that waits for a person. A text too large to keep stands as None beside its
    digest. `request_id` is that of the registration that `verdict` answered, `at` its time (Unix seconds).
    """

    node: NodeName
    name: LocalName
    verdict: Verdict
    at: NonNegative
    request_id: str = ""
    server: Text = ""
    approved: Tool | None = None
    approved_digest: Digest | None = None
    pending: Tool | None = None
    ruling: Ruling | None = None
    seal: str = ""


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The names of a tool that a governance worker is about to approve."""

    id: str
    node: NodeName
    name: LocalName
    server: Text = ""
    description: Text = ""


class ClaimBatch(Message, frozen=True, kw_only=True, tag="claims"):
    """The claims that a worker made together, in their order, for all workers to see."""

    claims: tuple[Claim, ...]
    seal: str = ""


class ReviewCommand(Message, frozen=True, kw_only=True, tag="review"):
    """A person's decision on its way to governance: a JWT that an operator's key signed."""

    order: str


class AuditRecord(Message, frozen=True, kw_only=True, tag="audit_record"):
    """One line of the audit trail: a verdict or a ruling, when, and for which request; signed.

    `after` and `chain` bind it to what came before it: the sequence of the last record that its writer
    had read, and the hash over all records up to that one.
    """

    node: NodeName
    name: LocalName
    at: NonNegative
    verdict: Verdict | None = None
    ruling: Ruling | None = None
    request_id: str = ""
    after: Count = 0
    chain: str = ""
    seal: str = ""


class ServerState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one MCP server of a node does; `reason` says why when it is not `ready`."""

    name: str
    state: Literal["starting", "ready", "failed", "stopped"]
    reason: str = ""
    tools: Count = 0
    restarts: Count = 0


class RefusedTool(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool that a node has and governance did not approve."""

    name: str
    decision: Decision
    why: str = ""


class Presence(Message, frozen=True, kw_only=True, tag="presence"):
    """A node's heartbeat.

    `catalog_hash` is `catalog.state.catalog_hash` of what the node publishes. `interval` is in seconds:
    unheard of for three of them, the node is unavailable.
    """

    node: NodeName
    instance: str
    status: Literal["up", "leaving"] = "up"
    interval: Annotated[float, Meta(gt=0, le=3600)]
    catalog_hash: str
    tools: Count = 0
    in_flight: Count = 0
    servers: tuple[ServerState, ...] = ()
    refused: tuple[RefusedTool, ...] = ()
    version: str = ""


class Cancel(Message, frozen=True, kw_only=True, tag="cancel"):
    """The caller no longer wants the answer to this request."""

    request_id: Annotated[str, Meta(min_length=1, max_length=64)]


class Progress(Message, frozen=True, kw_only=True, tag="progress"):
    """How far an execution is, in the tool's own measure; sent ahead of the answer to who asked for it."""

    progress: float
    total: float | None = None
    message: Text | None = None


class Running(Message, frozen=True, kw_only=True, tag="running"):
    """Which instance of a node has the call; sent ahead of the answer when that takes a while."""

    instance: str


class Blob(Message, frozen=True, kw_only=True, tag="blob"):
    """A payload too large for one message: `size` bytes, fetched in chunks by requests to `subject`."""

    subject: str
    size: Count
    digest: Digest


class ErrorReply(Message, frozen=True, kw_only=True, tag="error"):
    """Why a request failed; `code` is one of `mcp_federation.errors`."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


class Submission(Message, frozen=True, kw_only=True, tag="submission"):
    """A new tool, or a new MCP server, for a node to register; what `POST /register` brings.

    With `server_url` the node reaches that MCP server (streamable HTTP) and registers what it lists.
    """

    name: LocalName
    description: Text
    version: Annotated[str, Meta(max_length=256)] = "0.0.0"
    source_repo: Text | None = None
    input_schema: MaybeRaw = None
    server_url: Text | None = None


class SubmissionAnswer(Message, frozen=True, kw_only=True, tag="submission_answer"):
    """What became of a submission: the local names that are now published, or why none is."""

    published: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


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

    `observed` of the `count` executions were reported by others than the tool's own node. `recent` has,
    by the node that reported them, the latest executions; the older one is, the less it counts.

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


CatalogMessage = CatalogEntry | Withdrawal
MetricsMessage = RecordBatch | StatisticsBatch

MESSAGES: tuple[type[Message], ...] = (
    Registration,
    Probe,
    ProbeAnswer,
    Verdict,
    CatalogEntry,
    Withdrawal,
    Ruling,
    Case,
    ClaimBatch,
    ReviewCommand,
    AuditRecord,
    Presence,
    Cancel,
    Progress,
    Running,
    Blob,
    ErrorReply,
    Submission,
    SubmissionAnswer,
    RecordBatch,
    StatisticsBatch,
    Performance,
)

M = TypeVar("M")

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(message: Struct) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def decode(payload: bytes, kind: type[M]) -> M:
    """The message of that type (a message class, or a union of them).

    Raises:
        InvalidRequest: the payload is no JSON, or not such a message.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        message: M = decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not a valid message: {error}") from error
    return message


def error_reply(error: FederationError) -> ErrorReply:
    """The error as a message."""
    return ErrorReply(code=error.code, message=error.message, details=error.details)


def raise_error_reply(payload: bytes) -> None:
    """Raise the error that a peer answered with.

    Raises:
        FederationError: always; `InternalError`, which may have run, where the payload is no error reply.
    """
    try:
        reply = decode(payload, ErrorReply)
    except InvalidRequest as error:
        raise InternalError("the peer answered with an error that does not parse") from error
    raise error_from(reply.code, reply.message, reply.details)
