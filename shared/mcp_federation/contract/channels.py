"""What is said of the contract to people: each family of subjects, the headers, how to take part. Pure."""

from typing import Any

import msgspec

from mcp_federation import errors
from mcp_federation.contract import subjects
from mcp_federation.contract.mcp import CallParams, CallResult
from mcp_federation.contract.messages import (
    AuditRecord,
    Blob,
    Cancel,
    Case,
    CatalogEntry,
    ClaimBatch,
    ErrorReply,
    Performance,
    Presence,
    Probe,
    ProbeAnswer,
    Progress,
    RecordBatch,
    Registration,
    ReviewCommand,
    Ruling,
    Running,
    StatisticsBatch,
    Submission,
    SubmissionAnswer,
    Verdict,
    Withdrawal,
)
from mcp_federation.contract.subjects import Header, Template

DESCRIPTION = """
Several organisations each run MCP tool servers; over NATS each discovers and executes the others' tools.
Any NATS client can take part. Every payload is one JSON object in UTF-8. Those with a `type` name their
message by it; a reader passes over fields that it does not know.

## Names

A *node* is the process beside an organisation's tools. Its name is a lower-case DNS label: 1 to 63 of
`a-z`, `0-9` and `-`, not with `-` at either end. A *local name* names a tool on its node: any text of 1 to
256 bytes of UTF-8. The *federated name* `<local name>@<node>` splits at the last `@`.

In a subject a name stands as one token: the letters, digits, `_` and `-` of ASCII stand for themselves,
and every other byte of the name's UTF-8 is `=` and two upper-case hex digits. `time.now` becomes
`time=2Enow`, `größe` becomes `gr=C3=B6=C3=9Fe`. The token is a legal key of a NATS key-value bucket too.

## To read the catalog

Read the JetStream stream `MCPFED_CATALOG` with a consumer that delivers the last message of each subject
(an ordered consumer, or `deliver_policy: last_per_subject`), and go on reading: it goes live by itself.
A `catalog_entry` publishes a tool, or replaces it; a `withdrawal` takes it back.

Believe an entry only where its `approval` holds: a JWT signed with EdDSA (Ed25519) by a governance key that
you trust, found by the header `kid` (the first 16 hex digits of the SHA-256 of the 32 bytes of the public
key), with the header `typ` = `mcpfed-approval+jwt` and the claims `sub` = the federated name, `digest` = the
entry's, `iat` and `exp`, and `assessment` = `sha256:` and the hex of the SHA-256 over the bytes of the
entry's `assessment` as they came, where it has one. Every approval of a tool that was issued until the
`revoked_before` of the tool's last `ruling` (stream `MCPFED_RULINGS`) is void; a ruling's `seal` is such a
JWT with `typ` = `mcpfed-seal+jwt`.

The `digest` is `sha256:` and the hex of the SHA-256 over the RFC 8785 canonical
JSON of the entry's `tool`, without members that equal their default in the schema, an absent `inputSchema`
standing as `{}`. Where an integer of 2^53 or beyond occurs (or a whole number from there up to 10^21, however
it is written), it is over the bytes `exact`, a line feed, and that JSON with every such number as the string
of U+E000 and its digits, and with two more U+E000 before each string that begins with one.

## To call a tool

Send a request to the entry's `execute_subject` (an entry without one is described only). The payload is the
params of MCP's `tools/call`, `{"name": "<local name>", "arguments": {…}}`; the answer's payload is MCP's
`CallToolResult`, `{"content": […], "structuredContent": …, "isError": false}`. An answer with the header
`Nats-Service-Error-Code` is an `error` instead. NATS's own "no responders" means that no node serves the
tool. NATS clients wait but briefly for an answer unless told: give the request a timeout of your own.

Payload and headers of a message together may not exceed the server's `max_payload`. A larger payload stays
with its sender, which sends a `blob` under the header `Mcpfed-Blob: 1` instead. The receiver fetches it with
requests to the blob's `subject`, an inbox of the sender, each with the offset as a decimal number for its
payload; each is answered with the bytes from there, as many as the sender puts into one message. Several may
be under way at a time. A last one, with the size for its offset, tells the sender that it may forget them.
The receiver checks size and digest (SHA-256 of the bytes). An answer comes as a blob only to a caller that
said so in `Mcpfed-Accept`.
"""

_ERRORS = [getattr(errors, name) for name in errors.__all__ if name not in ("FederationError", "error_from")]
_RAN = {False: "no", None: "perhaps", True: "yes"}

DESCRIPTION += """
## Errors

| code | status | what happened | the tool ran |
|---|---|---|---|
""" + "".join(
    f"| `{kind.code}` | {kind.status} | {(kind.__doc__ or '').partition(chr(10))[0]} | {_RAN[kind.ran]} |\n"
    for kind in sorted(_ERRORS, key=lambda kind: (kind.status, kind.code))
)

SUMMARIES: dict[type, str] = {
    CallParams: "The params of MCP's `tools/call`. `name` is the local name and may be left out.",
    CallResult: "MCP's `CallToolResult`: what the tool answered; `isError` where the tool itself failed.",
}


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one family of subjects."""

    template: Template
    summary: str
    description: str
    messages: tuple[type, ...]
    replies: tuple[type, ...] = ()
    headers: tuple[str, ...] = ()
    sends: bool = False
    """Whether one who takes part publishes here, rather than reads."""

    queue: str | None = None
    """The queue group that answers."""


CHANNELS = (
    Channel(
        template=subjects.CATALOG,
        summary="The published tools",
        description="The last message of a subject is the truth about its tool.",
        messages=(CatalogEntry, Withdrawal),
    ),
    Channel(
        template=subjects.EXECUTE,
        summary="Execute a tool",
        description=(
            "Replicas of a node share the requests. The answer is an ErrorReply where it has the header "
            "Nats-Service-Error-Code."
        ),
        messages=(CallParams,),
        replies=(CallResult, Blob, Progress, Running, ErrorReply),
        headers=(Header.TIMEOUT_MS, Header.REQUEST_ID, Header.ACCEPT, Header.BLOB, Header.HANDED_ON),
        sends=True,
        queue="node-{node}",
    ),
    Channel(
        template=subjects.CANCEL,
        summary="Give up an execution",
        description="Names the request by what its header Mcpfed-Request-Id held.",
        messages=(Cancel,),
        sends=True,
    ),
    Channel(
        template=subjects.PRESENCE,
        summary="A node's heartbeat",
        description="A node that is silent for three of its intervals is unavailable.",
        messages=(Presence,),
    ),
    Channel(
        template=subjects.REGISTER,
        summary="Ask governance to approve a tool",
        description="Sent by the node for each of its tools, and anew whenever a tool's digest changes.",
        messages=(Registration,),
        replies=(Verdict, ErrorReply),
        sends=True,
        queue=subjects.GOVERNANCE_QUEUE,
    ),
    Channel(
        template=subjects.PROBE,
        summary="Look again at a tool that is being registered",
        description="Sent by governance to the instance that registers it; `{tool}` is that instance's id.",
        messages=(Probe,),
        replies=(ProbeAnswer, ErrorReply),
    ),
    Channel(
        template=subjects.AUDIT,
        summary="Every verdict and ruling of governance",
        description="Kept for good, in order; each record is signed, and holds the hash of those before it.",
        messages=(AuditRecord,),
    ),
    Channel(
        template=subjects.CASE,
        summary="What governance knows of each tool",
        description="The text that was approved last, the last verdict, and what a person ruled; signed.",
        messages=(Case,),
    ),
    Channel(
        template=subjects.CLAIM,
        summary="What a governance worker is about to approve",
        description=(
            "Signed, and kept for two minutes; `{node}` is the worker. Of two look-alikes that are judged at "
            "once, just the one that stands second here is judged beside the other."
        ),
        messages=(ClaimBatch,),
    ),
    Channel(
        template=subjects.RULING,
        summary="What a person decided on a tool",
        description=(
            "Signed by governance. Whoever reads the catalog follows this too: every approval of the tool "
            "that was issued until `revoked_before` is void. A node whose tool it is registers it anew."
        ),
        messages=(Ruling,),
    ),
    Channel(
        template=subjects.REVIEW,
        summary="Decide on a tool, as an operator of governance",
        description="Takes orders that a key signed which governance knows as an operator's, or its own.",
        messages=(ReviewCommand,),
        replies=(Ruling, ErrorReply),
        sends=True,
        queue=subjects.GOVERNANCE_QUEUE,
    ),
    Channel(
        template=subjects.SUBMIT,
        summary="Bring a node a new tool or MCP server",
        description="The node registers what it brings and publishes what is approved.",
        messages=(Submission,),
        replies=(SubmissionAnswer, ErrorReply),
        sends=True,
        queue="node-{node}",
    ),
    Channel(
        template=subjects.SUBMISSION,
        summary="The submissions that a node accepted",
        description="Kept by the node, so that its replicas, and itself after a restart, have them.",
        messages=(Submission,),
    ),
    Channel(
        template=subjects.METRICS,
        summary="Anonymised records, or statistics, of executions",
        description=(
            "By the node that reports them. Records come in batches, which hide when exactly each execution "
            "was; statistics are about many executions, with noise."
        ),
        messages=(RecordBatch, StatisticsBatch),
        sends=True,
    ),
    Channel(
        template=subjects.PERFORMANCE,
        summary="What is known of each tool's executions",
        description="The last message of a subject covers all records so far.",
        messages=(Performance,),
    ),
)

HEADERS: dict[str, Any] = {
    Header.TIMEOUT_MS: {
        "type": "string",
        "pattern": "^0*[1-9][0-9]{0,14}$",
        "description": "How long the node may take, in ms from when it got the request; else its default.",
    },
    Header.REQUEST_ID: {
        "type": "string",
        "maxLength": 64,
        "description": (
            "Unique to this execution, 1 to 64 printable ASCII characters; a `cancel` names it, and a "
            "repeated one is answered with the first outcome instead of running twice."
        ),
    },
    Header.ACCEPT: {
        "type": "string",
        "enum": ["interim", "progress"],
        "description": (
            "That the caller understands more than one message to its reply subject: `interim` admits "
            "`running` ahead of the answer and a `blob` as the answer, `progress` admits `progress` as well."
        ),
    },
    Header.INTERIM: {
        "type": "string",
        "enum": ["progress", "running"],
        "description": "That the answer is still to come; the `type` of this message.",
    },
    Header.BLOB: {
        "type": "string",
        "enum": ["1"],
        "description": "That the payload is a `blob`, which stands for one too large for a message.",
    },
    Header.HANDED_ON: {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": (
            "How many times replicas that could not run it have sent the request on to whichever takes it; "
            "callers do not set it."
        ),
    },
    Header.ERROR: {"type": "string", "description": "Why the request failed, for people; ASCII, one line."},
    Header.ERROR_CODE: {
        "type": "string",
        "enum": sorted({str(kind.status) for kind in _ERRORS}),
        "description": "That the request failed, and how, as an HTTP status.",
    },
}

PARAMETERS: dict[str, Any] = {
    "node": {"description": "A node's name; it is its own token.", "examples": ["acme"]},
    "tool": {
        "description": "A local name, escaped into one token as the description of this document says.",
        "examples": ["get_current_time", "time=2Enow"],
    },
}
