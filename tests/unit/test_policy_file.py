"""Policy files: what they say is what is decided by, and a mistake is told by its line and key."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.contract.messages import Finding
from mcp_federation.errors import InvalidRequest
from mcp_federation.governance import model_judge, probing
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import SECURITY
from mcp_federation.governance.widening import RULES as WIDENING_RULES
from mcp_federation.governance.widening import unknown_predecessor
from mcp_federation.trust.policy import (
    HELD,
    PRESETS,
    REJECTED,
    UNVERIFIED,
    ProbePolicy,
    RulePolicy,
    Subject,
    weigh,
)
from mcp_federation.trust.policy_file import load_policy, parse_policy
from mcp_federation.trust.rules import ALL_SUITES, RULES, SUITES

FULL = """
preset = "strict"
required = ["security"]
allow = ["time.*@globex"]
deny = ["*@evil"]
widening = "reject"
reviewed = true

[severities]
low = "approve"

[rules.schema-large]
severity = "off"

[rules.likely-instructions]
quarantine_at = 0.5
reject_at = 0.9

[organisations.globex]
preset = "open"
deny = ["shell.*@globex"]

[organisations.initech]
required = ["quality"]

[organisations.initech.rules.schema-large]
severity = "high"
"""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_goes_by_its_name(name: str) -> None:
    assert load_policy(name) is PRESETS[name]


def test_a_file_says_what_differs_from_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(FULL)
    policy = load_policy(str(path))
    assert policy.name == "policy.toml"
    assert policy.severities == {**PRESETS["strict"].severities, "low": "approve"}
    assert (policy.required, policy.widening, policy.reviewed) == (("security",), "reject", True)
    assert policy.rules["likely-instructions"] == RulePolicy(quarantine_at=0.5, reject_at=0.9)


def test_without_a_preset_a_file_begins_with_the_standard() -> None:
    assert parse_policy("", "p").severities == PRESETS["standard"].severities


def test_an_organisation_inherits_what_it_does_not_say_and_lists_hold_for_all() -> None:
    policy = parse_policy(FULL, "p")
    globex, initech = policy.of("globex"), policy.of("initech")
    assert globex.severities == PRESETS["open"].severities
    assert globex.deny == ("*@evil", "shell.*@globex")
    assert globex.allow == ("time.*@globex",)
    assert initech.severities == policy.severities
    assert initech.required == ("quality",)
    assert initech.rules == {**policy.rules, "schema-large": RulePolicy(severity="high")}
    assert policy.of("acme") is policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "loose"', "line 1, preset: there is no preset 'loose'"),
        ("\n\nextra = 1", "line 3, extra: there is no such key"),
        ("allow = 'x'", "line 1, allow: Expected `array`"),
        (
            '[rules.not-json]\nseverity = "bad"',
            "line 2, rules.not-json.severity: Invalid enum value 'bad'",
        ),
        ("[rules.not-json]\nreject_at = 1.5", "line 2, rules.not-json.reject_at: Expected `float` <= 1"),
        (
            "[rules.not-json]\nquarantine_at = 0.9\nreject_at = 0.2",
            "line 2, rules.not-json.quarantine_at: it is above",
        ),
        ('[severities]\nmedium = "ignore"', "line 2, severities.medium: it is one of approve, quarantine"),
        ('[severities]\nbad = "reject"', "line 2, severities.bad: there is no severity 'bad'"),
        (
            'rules = {not-json = {severitee = "low"}}',
            "line 1, rules.not-json.severitee: there is no such key",
        ),
        ("# a comment\n[organisations.ACME]", "line 2, organisations.ACME: 'ACME' cannot name a node"),
        (
            '[organisations.acme]\n[organisations.acme.severities]\nlow = "no"',
            "line 3, organisations.acme.severities.low",
        ),
        ("[organisations.a.organisations.b]", "line 1, organisations.a.organisations: organisations do not"),
        ("[probe]\nwithin_ms = 0", "line 2, probe.within_ms: Expected `float` > 0"),
        ("a = = 1", "is not TOML: Invalid value (at line 1"),
    ],
)
def test_a_mistake_is_told_by_its_line_and_key(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_policy(text, "p.toml")
    assert "the policy p.toml" in caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "place", "nearest", "known"),
    [
        ('[rules.hiden-character]\nseverity = "low"', "rules.hiden-character", "hidden-character", RULES),
        ('required = ["quality", "securty"]', "required", "security", ALL_SUITES),
        ('[organisations.a]\nrequired = ["Probe"]', "organisations.a.required", "probe", ALL_SUITES),
        ('preset = "strickt"', "preset", "strict", PRESETS),
        ('[severities]\nmedum = "reject"', "severities.medum", "medium", ("low", "medium")),
    ],
)
def test_a_name_that_nothing_goes_by_is_told_with_the_nearest_one_and_all(
    text: str, place: str, nearest: str, known: Collection[str]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_policy(text, "p")
    told = caught.value.message
    assert f", {place}: there is no " in told
    assert f"Did you mean '{nearest}'?" in told
    assert all(name in told.partition("Known are ")[2] for name in known)


def test_every_rule_of_a_finding_and_every_suite_is_known_to_policies() -> None:
    checks = {check.rule for check in (*SECURITY, *QUALITY)}
    asked = {model_judge.RULE, "probe-failed", "probe-other-text", "probe-slow", "probe-call-failed"}
    ruled = HELD | REJECTED | {UNVERIFIED.rule}
    assert checks | asked | ruled | WIDENING_RULES.keys() | {unknown_predecessor("is gone").rule} == RULES
    assert {*SUITES, model_judge.SUITE, probing.SUITE} == set(ALL_SUITES)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_told_with_the_presets(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="presets are open, standard, strict"):
        load_policy(str(path))


def test_the_documented_example_is_a_policy() -> None:
    page = (Path(__file__).parents[2] / "docs" / "governance" / "policy.md").read_text()
    policy = parse_policy(page.partition("```toml\n")[2].partition("```")[0], "policy.md")
    assert policy.of("globex").severities == PRESETS["strict"].severities
    assert policy.deny
    assert policy.probe == ProbePolicy(within_ms=5000, call_read_only=False)


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_a_policy_or_an_invalid_request(text: str) -> None:
    with suppress(InvalidRequest):
        policy = parse_policy(text, "p")
        finding = Finding(rule="r", severity="high", where="", why="", remedy="")
        assert weigh([finding], policy, Subject("acme", "a", "")).decision in ("rejected", "quarantined")
