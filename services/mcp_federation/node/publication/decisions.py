"""Governance's verdicts as a node keeps them: what was decided, and when to ask anew. Pure."""

from dataclasses import dataclass

from mcp_federation.contract.messages import Finding, Verdict
from mcp_federation.errors import ApprovalRefused, FederationError, InternalError
from mcp_federation.node.tools import LocalTool
from mcp_federation.trust.approvals import validity_of

RENEW_AFTER = 24 * 3600.0
"""Seconds after which a tool is registered anew at the latest; sooner where its approval ends soon."""

QUARANTINE_RECHECK = 300.0
"""Seconds after which a quarantined tool is asked about anew, should the ruling on it have been missed."""

MAX_WHY = 500


@dataclass(frozen=True)
class Decision:
    """A verdict, when it came, and when to ask anew, in the event loop's time."""

    verdict: Verdict
    at: float
    renew_at: float

    @property
    def approved(self) -> bool:
        """Whether the tool may be published."""
        return self.verdict.decision == "approved"

    @property
    def why(self) -> str:
        """What led to it in one line: the findings, or else what the policy says."""
        findings = (
            f"{finding.rule}{f' at {finding.where}' if finding.where else ''}: {finding.why}"
            for finding in self.verdict.findings
        )
        return "; ".join((*findings, *(() if self.verdict.findings else self.verdict.reasons)))[:MAX_WHY]


def decision(verdict: Verdict, now: float) -> Decision:
    """The decision that a verdict is; an approval is renewed when half of its life is over.

    Raises:
        InternalError: the approval in it is none.
    """
    if verdict.approval is not None:
        life = min(RENEW_AFTER, _life(verdict.approval) / 2)
    else:
        life = QUARANTINE_RECHECK if verdict.decision == "quarantined" else RENEW_AFTER
    return Decision(verdict, now, now + life)


def refusal(node: str, tool: LocalTool, error: FederationError) -> Verdict:
    """What comes of a tool that governance cannot even judge."""
    remedy = "Mend the tool at its server."
    finding = Finding(rule=error.code, severity="high", where="", why=error.message, remedy=remedy)
    name, digest = tool.tool.name, tool.digest
    return Verdict(node=node, name=name, digest=digest, decision="rejected", findings=(finding,))


def _life(approval: str) -> float:
    """Seconds that an approval holds from when it was signed; whether it is genuine its readers check."""
    try:
        issued, expires = validity_of(approval)
        return expires - issued
    except ApprovalRefused as error:
        raise InternalError("the verdict's approval cannot be read") from error
