"""Every subject of the federation, and its streams. Nobody builds a subject anywhere else.

A template such as `mcpfed.v1.catalog.{node}.{tool}` yields the subject of one tool, the wildcard that
matches them all, and the names back from a subject. The node is always the fourth token, so that a
node's NATS permissions are a few lines.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mcp_federation.contract.names import check_node_name, from_token, to_token
from mcp_federation.errors import InvalidRequest

ROOT: Final = "mcpfed.v1"


@dataclass(frozen=True)
class Template:
    """A family of subjects: `mcpfed.v1.<kind>.<node>` and, for some, `.<tool>`."""

    kind: str
    has_tool: bool = False

    @property
    def address(self) -> str:
        """The template itself, for documentation: `mcpfed.v1.catalog.{node}.{tool}`."""
        return f"{ROOT}.{self.kind}.{{node}}" + (".{tool}" if self.has_tool else "")

    def of(self, node: str, tool: str | None = None) -> str:
        """The subject of a node, or of a tool on it."""
        if (tool is not None) is not self.has_tool:
            raise ValueError(f"{self.address} takes {'a' if self.has_tool else 'no'} tool")
        subject = f"{ROOT}.{self.kind}.{to_token(node)}"
        return subject if tool is None else f"{subject}.{to_token(tool)}"

    def every(self, node: str | None = None) -> str:
        """The wildcard over all nodes, or over all tools of one node."""
        subject = f"{ROOT}.{self.kind}.{'*' if node is None else to_token(node)}"
        return f"{subject}.*" if self.has_tool else subject

    def parse(self, subject: str) -> tuple[str, str]:
        """`(node, tool)` of a subject; the tool is empty where the template has none.

        Raises:
            InvalidRequest: the subject is not of this family, or names no node.
        """
        tokens = subject.split(".")
        if ".".join(tokens[:3]) != f"{ROOT}.{self.kind}" or len(tokens) != (5 if self.has_tool else 4):
            raise InvalidRequest(f"{subject!r} is not a subject of {self.address}")
        return check_node_name(tokens[3]), from_token(tokens[4]) if self.has_tool else ""

    def check(self, subject: str, node: str, tool: str = "") -> None:
        """Hold a message that speaks of a node, or of a tool on it, to the subject that it came on.

        Raises:
            InvalidRequest: the subject is another one's.
        """
        if self.parse(subject) != (node, tool):
            what = "tool" if self.has_tool else "node"
            raise InvalidRequest(f"the {self.kind} is of another {what} than its subject")


REGISTER: Final = Template("register")
SUBMIT: Final = Template("submit")
SUBMISSION: Final = Template("submission", has_tool=True)
CATALOG: Final = Template("catalog", has_tool=True)
PRESENCE: Final = Template("presence")
EXECUTE: Final = Template("execute", has_tool=True)
CANCEL: Final = Template("cancel")
METRICS: Final = Template("metrics")
PERFORMANCE: Final = Template("performance", has_tool=True)
AUDIT: Final = Template("audit", has_tool=True)
CASE: Final = Template("case", has_tool=True)
CLAIM: Final = Template("claim")
"""Its last token is a governance worker, not a node."""

RULING: Final = Template("ruling", has_tool=True)
REVIEW: Final = Template("review", has_tool=True)
PROBE: Final = Template("probe", has_tool=True)
"""Its last token is an instance of the node, not a tool."""


GOVERNANCE_QUEUE: Final = "governance"
METRICS_CONSUMER: Final = "metrics"


def node_queue(node: str) -> str:
    """The queue group that a node's replicas share."""
    return f"node-{to_token(node)}"


SERVICE_NAME: Final = "mcp-federation-node"
"""What a node is called as a service of NATS's ADR-32."""


def service_subjects(verb: str, instance: str) -> tuple[str, str, str]:
    """Where a node answers an ADR-32 verb: as any service, as this one, as this instance of it."""
    return f"$SRV.{verb}", f"$SRV.{verb}.{SERVICE_NAME}", f"$SRV.{verb}.{SERVICE_NAME}.{instance}"


def instance_ping(instance: str) -> str:
    """Where one instance of a node answers whether it is there."""
    return service_subjects("PING", instance)[2]


@dataclass(frozen=True)
class StreamSpec:
    """A JetStream stream: which subjects it keeps, and how much of each.

    Of one that is `append_only` the server deletes and purges nothing.
    """

    name: str
    template: Template
    last_per_subject: bool = False
    append_only: bool = False
    max_age: timedelta | None = None
    max_bytes: int | None = None


CATALOG_STREAM: Final = StreamSpec("MCPFED_CATALOG", CATALOG, last_per_subject=True)
SUBMISSION_STREAM: Final = StreamSpec("MCPFED_SUBMISSIONS", SUBMISSION, last_per_subject=True)
AUDIT_STREAM: Final = StreamSpec("MCPFED_AUDIT", AUDIT, append_only=True)
CASE_STREAM: Final = StreamSpec("MCPFED_CASES", CASE, last_per_subject=True)
CLAIM_STREAM: Final = StreamSpec("MCPFED_CLAIMS", CLAIM, max_age=timedelta(minutes=2))
RULING_STREAM: Final = StreamSpec("MCPFED_RULINGS", RULING, last_per_subject=True)
METRICS_STREAM: Final = StreamSpec(
    "MCPFED_METRICS", METRICS, max_age=timedelta(days=30), max_bytes=256 * 1024 * 1024
)
PERFORMANCE_STREAM: Final = StreamSpec("MCPFED_PERFORMANCE", PERFORMANCE, last_per_subject=True)

GOVERNANCE_STREAMS: Final = (
    CATALOG_STREAM,
    SUBMISSION_STREAM,
    AUDIT_STREAM,
    CASE_STREAM,
    CLAIM_STREAM,
    RULING_STREAM,
)
"""What governance makes before it answers its first registration."""

STREAMS: Final = (*GOVERNANCE_STREAMS, METRICS_STREAM, PERFORMANCE_STREAM)


class Header:
    """The headers on the wire."""

    TIMEOUT_MS: Final = "Mcpfed-Timeout-Ms"
    REQUEST_ID: Final = "Mcpfed-Request-Id"
    ACCEPT: Final = "Mcpfed-Accept"
    INTERIM: Final = "Mcpfed-Interim"
    BLOB: Final = "Mcpfed-Blob"
    HANDED_ON: Final = "Mcpfed-Handed-On"
    ERROR: Final = "Nats-Service-Error"
    ERROR_CODE: Final = "Nats-Service-Error-Code"
