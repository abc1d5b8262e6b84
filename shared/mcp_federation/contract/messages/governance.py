"""What is asked of governance, what it answers, and what it keeps."""

from typing import Final, Literal, get_args

from msgspec import Struct

from mcp_federation.contract.messages.catalog import Tool
from mcp_federation.contract.messages.codec import Message
from mcp_federation.contract.messages.fields import (
    Count,
    Digest,
    LocalName,
    MaybeRaw,
    NodeName,
    NonNegative,
    Ratio,
    Text,
)

Decision = Literal["approved", "quarantined", "rejected"]
Ruled = Literal["approved", "rejected", "revoked"]
Severity = Literal["info", "low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""From the slightest to the gravest."""


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
