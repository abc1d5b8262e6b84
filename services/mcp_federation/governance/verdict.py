"""From findings to a verdict. Pure."""

from collections.abc import Iterable
from typing import Final

from mcp_federation.contract.digest import tool_digest
from mcp_federation.contract.messages import Decision, Finding, Registration, Verdict
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.checks.reading import read
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import SECURITY

_REJECTING: Final = frozenset({"critical", "high"})
_QUARANTINING: Final = frozenset({"medium"})


def decide(findings: Iterable[Finding]) -> Decision:
    """`rejected` for a critical or high finding, `quarantined` for a medium one, `approved` otherwise."""
    severities = {finding.severity for finding in findings}
    if severities & _REJECTING:
        return "rejected"
    return "quarantined" if severities & _QUARANTINING else "approved"


def judge(registration: Registration, catalog: CatalogView | None = None) -> Verdict:
    """The verdict on a registration beside what is published already, by all checks; not signed yet.

    The most severe findings come first.

    Raises:
        InvalidRequest: the tool has no canonical form, so that no digest could be approved.
    """
    reading = read(registration, catalog)
    findings = [*_digest_findings(registration), *SECURITY.run(reading), *QUALITY.run(reading)]
    findings.sort(key=_severity_rank)
    return Verdict(
        node=registration.node,
        name=registration.tool.name,
        digest=registration.digest,
        decision=decide(findings),
        findings=tuple(findings),
    )


def _digest_findings(registration: Registration) -> Iterable[Finding]:
    digest = tool_digest(registration.tool)
    if digest != registration.digest:
        yield Finding(
            rule="digest-mismatch",
            severity="critical",
            where="digest",
            why=f"the node claims {registration.digest}, and the tool that it sent has {digest}",
            remedy="Compute the digest over exactly the tool that is sent, and register it again.",
        )


_RANKS = {"critical": 0, "high": 1, "medium": 2, "low": 3, "info": 4}


def _severity_rank(finding: Finding) -> int:
    return _RANKS[finding.severity]
