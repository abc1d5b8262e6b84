"""Subjects: one place that builds them, takes them apart, and says which stream keeps them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.bus.memory_broker import matches
from mcp_federation.contract import subjects
from mcp_federation.contract.names import NODE_NAME
from mcp_federation.contract.subjects import CATALOG, EXECUTE, PRESENCE, STREAMS, Template, node_queue
from mcp_federation.errors import InvalidRequest

TEMPLATES = [value for value in vars(subjects).values() if isinstance(value, Template)]
NODES = st.from_regex(NODE_NAME, fullmatch=True)
TOOLS = st.text(min_size=1, max_size=64)


@given(st.sampled_from(TEMPLATES), NODES, TOOLS)
def test_a_subject_gives_back_the_names_that_it_was_built_of(
    template: Template, node: str, tool: str
) -> None:
    subject = template.of(node, tool) if template.has_tool else template.of(node)
    assert template.parse(subject) == (node, tool if template.has_tool else "")
    assert subject.split(".")[3] == node
    assert matches(template.every(), subject)
    assert matches(template.every(node), subject)


@pytest.mark.parametrize(
    ("template", "names", "others"),
    [(CATALOG, ("acme", "a"), ("acme", "b")), (PRESENCE, ("acme",), ("other",))],
)
def test_a_message_is_held_to_the_subject_that_it_came_on(
    template: Template, names: tuple[str, ...], others: tuple[str, ...]
) -> None:
    template.check(template.of(*names), *names)
    with pytest.raises(InvalidRequest, match="than its subject"):
        template.check(template.of(*others), *names)


@given(NODES, NODES, TOOLS)
def test_the_wildcard_of_one_node_matches_no_other_node(one: str, other: str, tool: str) -> None:
    assert matches(EXECUTE.every(one), EXECUTE.of(other, tool)) == (one == other)


def test_no_two_families_share_a_subject() -> None:
    for template in TEMPLATES:
        subject = template.of("acme", "tool") if template.has_tool else template.of("acme")
        assert [other for other in TEMPLATES if matches(other.every(), subject)] == [template]


def test_the_address_is_the_template_for_people() -> None:
    assert CATALOG.address == "mcpfed.v1.catalog.{node}.{tool}"
    assert PRESENCE.address == "mcpfed.v1.presence.{node}"


def test_a_tool_is_named_exactly_where_the_template_has_one() -> None:
    with pytest.raises(ValueError, match="takes a tool"):
        CATALOG.of("acme")
    with pytest.raises(ValueError, match="takes no tool"):
        PRESENCE.of("acme", "tool")


@pytest.mark.parametrize(
    "subject",
    [
        "mcpfed.v1.catalog.acme",
        "mcpfed.v1.catalog.acme.a.b",
        "mcpfed.v2.catalog.acme.a",
        "mcpfed.v1.execute.acme.a",
        "mcpfed.v1.catalog.acme.=",
        "mcpfed.v1.catalog.UPPER.a",
        "mcpfed.v1.catalog._x.a",
        "mcpfed.v1.catalog.=C3=A9.a",
        "",
    ],
)
def test_a_subject_of_another_family_or_of_no_node_is_refused(subject: str) -> None:
    with pytest.raises(InvalidRequest):
        CATALOG.parse(subject)


def test_replicas_of_one_node_share_a_queue_group_and_nodes_do_not() -> None:
    assert node_queue("acme") == node_queue("acme") != node_queue("other")


def test_every_stream_keeps_subjects_of_its_own() -> None:
    assert len({stream.name for stream in STREAMS}) == len(STREAMS)
    assert len({stream.template for stream in STREAMS}) == len(STREAMS)
