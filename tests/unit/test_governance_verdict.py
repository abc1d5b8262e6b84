"""From findings to verdicts, and the suites of checks themselves."""

import re

import pytest

from mcp_federation.contract.digest import tool_digest
from mcp_federation.contract.messages import Decision, Finding, Severity
from mcp_federation.errors import InvalidRequest
from mcp_federation.governance.checks.check import Check, Sighting, Suite
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import SECURITY
from mcp_federation.governance.verdict import decide, judge
from tests.support.registrations import CLEAN, a_registration, a_tool, rules, unjudgeable

CHECKS = [*QUALITY, *SECURITY]


def a_finding(severity: Severity) -> Finding:
    return Finding(rule="r", severity=severity, where="w", why="y", remedy="m")


@pytest.mark.parametrize(
    ("severities", "decision"),
    [
        ([], "approved"),
        (["info", "low"], "approved"),
        (["medium", "low"], "quarantined"),
        (["high", "medium"], "rejected"),
        (["info", "critical"], "rejected"),
    ],
)
def test_the_gravest_finding_decides(severities: list[Severity], decision: Decision) -> None:
    assert decide(map(a_finding, severities)) == decision


def test_a_clean_tool_is_approved_without_findings() -> None:
    verdict = judge(a_registration())
    assert (verdict.decision, verdict.findings, verdict.approval) == ("approved", (), None)
    assert (verdict.node, verdict.name) == ("acme", "weather.forecast")


def test_a_digest_of_another_tool_is_rejected() -> None:
    other = tool_digest(a_tool(description="Another text altogether."))
    verdict = judge(a_registration(digest=other))
    assert (verdict.decision, rules(verdict.findings)) == ("rejected", {"digest-mismatch"})
    assert verdict.digest == other


def test_the_gravest_findings_come_first() -> None:
    tool = a_tool(name="Get the weather", description="TODO\u200b", version="1.0")
    severities = [finding.severity for finding in judge(a_registration(tool)).findings]
    assert severities == ["high", "medium", "low", "low", "info"]


def test_a_tool_without_a_digest_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest):
        judge(unjudgeable(a_tool(schema=b'"\\ud800"')))


def test_rules_are_stable_kebab_case_names_of_one_check_each() -> None:
    names = [check.rule for check in CHECKS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", name) for name in names)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.rule)
def test_every_check_says_why_it_is_there_and_how_to_mend(check: Check) -> None:
    assert check.rationale.endswith(".")
    assert check.remedy.endswith(".")


def test_a_check_runs_alone() -> None:
    assert rules(SECURITY["hidden-character"](a_registration(a_tool(description=f"{CLEAN}\u200b")))) == {
        "hidden-character"
    }


def test_a_suite_refuses_two_checks_of_one_rule() -> None:
    with pytest.raises(ValueError, match="same rule"):
        Suite(CHECKS[0], CHECKS[0])


def test_a_rule_gives_a_bounded_number_of_findings() -> None:
    check = Check("too-many", "low", "Why.", "How.", lambda _: (Sighting(str(n), "") for n in range(1000)))
    assert len(check(a_registration())) == 10
