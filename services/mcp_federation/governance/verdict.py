"""From a registration to a verdict: all checks, what changed, the policy, and what a person ruled. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from mcp_federation.contract.digest import has_digest, tool_digest
from mcp_federation.contract.messages import (
    SEVERITIES,
    Assessment,
    Case,
    Change,
    Decision,
    Finding,
    Registration,
    Verdict,
    encode,
)
from mcp_federation.governance.change import changes
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.checks.reading import read
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import SECURITY
from mcp_federation.governance.widening import NOT_BELIEVED, TOO_LARGE, unknown_predecessor, widened
from mcp_federation.trust.policy import PRESETS, Policy, Subject, weigh
from mcp_federation.trust.rules import SUITES


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a tool from before; `lost` where something is kept that cannot be believed."""

    case: Case | None = None
    lost: bool = False


def decide(
    findings: Iterable[Finding], policy: Policy = PRESETS["standard"], node: str = "local"
) -> Decision:
    """What a policy makes of findings on a tool of a node, by themselves."""
    return weigh(findings, policy, Subject(node, "", "", SUITES)).decision


def judge(
    registration: Registration,
    catalog: CatalogView | None = None,
    *,
    policy: Policy = PRESETS["standard"],
    past: Past | None = None,
    further: Mapping[str, Sequence[Finding]] | None = None,
) -> Verdict:
    """The verdict on a registration beside what is published already; not signed yet.

    The most severe findings come first. `further` are findings from elsewhere, by their suites.

    Raises:
        InvalidRequest: the tool has no canonical form, so that no digest could be approved.
    """
    past, further = past or Past(), further or {}
    checks = tuple(dict.fromkeys((*SUITES, *further)))
    reading = read(registration, catalog)
    changed, of_change = _change(registration, past)
    findings = [
        *_digest_findings(registration),
        *_ruling_findings(registration, past.case),
        *SECURITY.run(reading),
        *QUALITY.run(reading),
        *of_change,
        *(finding for found in further.values() for finding in found),
    ]
    findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    node, name, digest = registration.node, registration.tool.name, registration.digest
    reviewer = _reviewer(registration, findings, policy.of(node), past.case)
    subject = Subject(node, name, digest, checks, reviewer)
    judgement = weigh(findings, policy, subject, own_reviewer=True)
    verdict = Verdict(
        node=node,
        name=name,
        digest=digest,
        decision=judgement.decision,
        findings=tuple(findings),
        reasons=judgement.reasons,
        changes=changed,
        checks=checks,
        reviewer=reviewer,
    )
    return _assessed(verdict) if verdict.decision == "approved" else verdict


def _assessed(verdict: Verdict) -> Verdict:
    assessment = Assessment(findings=verdict.findings, checks=verdict.checks, reviewer=verdict.reviewer)
    return msgspec.structs.replace(verdict, assessment=msgspec.Raw(encode(assessment)))


def _change(registration: Registration, past: Past) -> tuple[tuple[Change, ...], list[Finding]]:
    case = past.case
    if past.lost:
        return (), [unknown_predecessor(NOT_BELIEVED)]
    if case is None or case.approved_digest in (None, registration.digest):
        return (), []
    if case.approved is None:
        return (), [unknown_predecessor(TOO_LARGE)]
    return changes(case.approved, registration.tool), widened(case.approved, registration)


def _reviewer(
    registration: Registration, findings: Iterable[Finding], policy: Policy, case: Case | None
) -> str:
    """Who approved just this text, knowing of all that now speaks against it."""
    ruling = case.ruling if case else None
    if ruling is None or (ruling.decision, ruling.digest) != ("approved", registration.digest):
        return ""
    grave = {finding.rule for finding in findings if policy.action(finding) != "approve"}
    return ruling.by if grave <= set(ruling.rules) else ""


def _ruling_findings(registration: Registration, case: Case | None) -> Iterable[Finding]:
    ruling = case.ruling if case else None
    if case is None or ruling is None or ruling.decision == "approved":
        return
    if ruling.decision == "rejected" and case.approved_digest == registration.digest:
        return  # back to what was approved before the text that the person rejected
    because = f": {ruling.reason}" if ruling.reason else ""
    if ruling.digest == registration.digest:
        yield Finding(
            rule="ruled-against",
            severity="critical",
            where="",
            why=f"{ruling.by} {ruling.decision} this text{because}",
            remedy="Change the tool as the person asks, and register it again.",
        )
    else:
        yield Finding(
            rule="ruled-against-before",
            severity="medium",
            where="",
            why=f"{ruling.by} {ruling.decision} an earlier text of this tool{because}",
            remedy="Have a person look at the new text, and approve or reject it.",
        )


def _digest_findings(registration: Registration) -> Iterable[Finding]:
    if not has_digest(registration.tool, registration.digest):
        digest = tool_digest(registration.tool)
        yield Finding(
            rule="digest-mismatch",
            severity="critical",
            where="digest",
            why=f"the node claims {registration.digest}, and the tool that it sent has {digest}",
            remedy="Compute the digest over exactly the tool that is sent, and register it again.",
        )
