"""Positional arguments, and what a name means at an edge."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcp_federation.catalog.state import CatalogState, CatalogTool
from mcp_federation.contract.arguments import bind, positional_names
from mcp_federation.contract.digest import canonical_tool
from mcp_federation.contract.messages import CatalogEntry, Tool
from mcp_federation.edge.naming import mcp_name, resolve
from mcp_federation.errors import InvalidArguments
from tests.support.edge_mesh import schema_of

names = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=8)


def entry(tool: Tool, node: str = "home") -> CatalogEntry:
    return CatalogEntry(node=node, tool=canonical_tool(tool), digest="sha256:" + "0" * 64, approval="")


def tool_with(*parameters: str) -> CatalogEntry:
    return entry(Tool(name="t", input_schema=schema_of(*parameters), parameters=parameters))


def test_positional_arguments_take_the_servers_order_and_not_the_alphabets() -> None:
    zebra_first = tool_with("zebra", "apple")
    assert bind(zebra_first.tool, [1, 2], {}) == {"zebra": 1, "apple": 2}


def test_positional_and_named_arguments_mix() -> None:
    assert bind(tool_with("b", "a", "c").tool, [1], {"c": 3}) == {"b": 1, "c": 3}


@given(names=names, data=st.data())
def test_binding_all_by_position_equals_naming_them_all(names: list[str], data: Any) -> None:
    values = data.draw(st.lists(st.integers(), min_size=len(names), max_size=len(names)))
    by_name = dict(zip(names, values, strict=True))
    assert bind(tool_with(*names).tool, values, {}) == bind(tool_with(*names).tool, [], by_name) == by_name


@given(names=names, extra=st.integers(min_value=1, max_value=3))
def test_more_arguments_than_the_tool_has_are_refused(names: list[str], extra: int) -> None:
    with pytest.raises(InvalidArguments, match="by position"):
        bind(tool_with(*names).tool, [0] * (len(names) + extra), {})


def test_an_argument_given_twice_is_refused_by_name() -> None:
    with pytest.raises(InvalidArguments, match="'a'") as caught:
        bind(tool_with("a", "b").tool, [1], {"a": 2})
    assert caught.value.details == {"arguments": ["a"]}


def test_without_a_published_order_the_required_ones_come_first() -> None:
    unordered = entry(Tool(name="t", input_schema=schema_of("a", "b", "z", required=("z",))))
    assert positional_names(unordered.tool) == ("z", "a", "b")


@pytest.mark.parametrize("schema", [b"[]", b"true", b'{"properties": []}', b'{"required": 1}', b"{}"])
def test_a_schema_without_readable_properties_takes_no_positional_arguments(schema: bytes) -> None:
    odd = CatalogEntry(
        node="home", tool=Tool(name="t", input_schema=Raw(schema)), digest="sha256:" + "0" * 64, approval=""
    )
    assert positional_names(odd.tool) == ()
    assert bind(odd.tool, [], {"x": 1}) == {"x": 1}


def catalog(*tools: tuple[str, str]) -> CatalogState:
    state = CatalogState()
    for number, (node, name) in enumerate(tools, 1):
        published = entry(Tool(name=name), node)
        state.publish(published, number, CatalogTool(published, float("inf")))
    return state


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mine", ("home", "mine")),
        ("shared", ("home", "shared")),
        ("shared@acme", ("acme", "shared")),
        ("theirs", ("acme", "theirs")),
        ("gone@acme", ("acme", "gone")),
        ("gone", ("home", "gone")),
        ("odd@name", ("zeta", "odd@name")),
    ],
)
def test_a_name_means_what_the_catalog_says_then_what_it_reads_then_home(
    name: str, expected: tuple[str, str]
) -> None:
    state = catalog(
        ("home", "mine"),
        ("home", "shared"),
        ("acme", "shared"),
        ("zeta", "theirs"),
        ("acme", "theirs"),
        ("zeta", "odd@name"),
    )
    assert resolve(name, state, "home") == expected


@given(local=st.text(min_size=1, max_size=20), node=st.sampled_from(["home", "acme"]))
def test_the_name_that_the_edge_gives_a_tool_leads_back_to_it(local: str, node: str) -> None:
    state = catalog((node, local)) if local.isascii() and "\0" not in local else CatalogState()
    name = mcp_name(local, node, "home")
    assert resolve(name, state, "home") == (node, local)
