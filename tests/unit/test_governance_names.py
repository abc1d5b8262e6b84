"""Names and versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.governance.verdict import decide
from tests.support.registrations import (
    a_tool,
    quality_findings,
    rules,
    security_findings,
    unjudgeable,
)


def of_name(name: str) -> set[str]:
    registration = unjudgeable(a_tool(name=name))
    return rules(quality_findings(registration) + security_findings(registration))


@pytest.mark.parametrize("name", ["add", "files.read", "git/status", "get-weather_2", "A" * 128])
def test_a_recommended_name_gives_no_finding(name: str) -> None:
    assert of_name(name) == set()


@pytest.mark.parametrize(
    "name", ["Get all projects", "长亭 IP 情报查询", "größe", "получить_погоду", "get_погода"]
)
def test_a_name_outside_of_the_recommended_alphabet_is_approved_and_told(name: str) -> None:
    findings = quality_findings(unjudgeable(a_tool(name=name)))
    assert (rules(findings), decide(findings)) == ({"name-not-recommended"}, "approved")
    assert "confusable-name" not in of_name(name)


def test_a_long_name_is_quarantined() -> None:
    assert "name-too-long" in of_name("a" * 129)


@pytest.mark.parametrize("name", [" add", "add ", "a\ndd", "a\tb", "  ", "a\u2028b"])
def test_a_name_that_does_not_show_as_what_it_is_is_refused(name: str) -> None:
    assert "name-not-printable" in of_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "p\u0430ypal_send",
        "g\u0435t_weather",
        "\u0391PI.call",
        "\uff47\uff45\uff54_weather",
        "\U0001d5c0\U0001d5be\U0001d5cd",
        "\u2113ist",
    ],
)
def test_a_name_that_looks_like_another_is_refused(name: str) -> None:
    assert "confusable-name" in of_name(name)


def test_a_confusable_name_is_explained_by_the_letter_that_does_not_belong() -> None:
    (finding,) = security_findings(unjudgeable(a_tool(name="send.p\u0430ypal")))
    assert finding.where == "name[5]"
    assert "mixes Cyrillic and Latin" in finding.why
    assert "U+0430 CYRILLIC SMALL LETTER A" in finding.why


@pytest.mark.parametrize("version", ["0.0.0", "0.1.0", "1.2.3-rc.1+build.5", "2026.10.19"])
def test_a_semantic_version_gives_no_finding(version: str) -> None:
    assert quality_findings(unjudgeable(a_tool(version=version))) == []


@pytest.mark.parametrize("version", ["1", "1.0", "v1.2.3", "2025.08.04", "1.2.3.dev4", "1.0.0 beta"])
def test_a_version_of_another_scheme_is_approved_and_told(version: str) -> None:
    findings = quality_findings(unjudgeable(a_tool(version=version)))
    assert (rules(findings), decide(findings)) == ({"version-not-semver"}, "approved")


@pytest.mark.parametrize("version", ["", "latest", "the newest one", "-1", "1..2", "½"])
def test_what_is_no_version_at_all_is_quarantined(version: str) -> None:
    findings = quality_findings(unjudgeable(a_tool(version=version)))
    assert (rules(findings), decide(findings)) == ({"version-meaningless"}, "quarantined")


@given(st.text(min_size=1, max_size=256), st.text(max_size=256))
def test_no_name_and_no_version_breaks_the_checks(name: str, version: str) -> None:
    registration = unjudgeable(a_tool(name=name, version=version))
    for finding in quality_findings(registration) + security_findings(registration):
        assert (finding.where + finding.why).isprintable()
