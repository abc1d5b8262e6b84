"""Whether a description says something."""

import pytest

from mcp_federation.contract.messages import Severity
from tests.support.registrations import (
    a_tool,
    quality_findings,
    unjudgeable,
)


def found(description: str, name: str = "list_tasks", **fields: bool) -> dict[str, Severity]:
    findings = quality_findings(unjudgeable(a_tool(name=name, description=description), **fields))
    return {finding.rule: finding.severity for finding in findings}


@pytest.mark.parametrize(
    "description",
    [
        "Lists the open tasks of a project.",
        "查询城市天气",
        "Test connectivity to a host",
        "Placeholder images of any size, as PNG",
        "Runs a tool described in a file",
    ],
)
def test_a_description_that_says_something_gives_no_finding(description: str) -> None:
    assert found(description) == {}


@pytest.mark.parametrize("description", ["", "   \n"])
def test_a_missing_description_is_told_of_a_tool_and_holds_back_a_mere_description(description: str) -> None:
    assert found(description) == {"description-missing": "low"}
    assert found(description, executable=False) == {"nothing-described": "medium"}


@pytest.mark.parametrize(
    "description",
    [
        "TODO",
        "tbd.",
        "a test",
        "n/a",
        "...",
        "XXXX",
        "foo bar",
        "some description",
        "Your description here",
        "Description goes here!",
        "No description provided",
        "Lorem ipsum dolor sit amet",
    ],
)
def test_a_placeholder_is_quarantined(description: str) -> None:
    assert found(description)["description-placeholder"] == "medium"


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("list_tasks", "List tasks"),
        ("acme.listTasks", "list tasks."),
        ("delete-everything", "Delete everything"),
    ],
)
def test_a_description_that_repeats_the_name_is_told(name: str, description: str) -> None:
    assert found(description, name)["description-repeats-name"] == "low"


def test_a_short_description_is_told() -> None:
    assert found("Adds two") == {"description-too-short": "low"}


def test_a_description_over_the_bound_is_quarantined() -> None:
    assert found("Adds numbers. " * 1000)["description-too-long"] == "medium"
