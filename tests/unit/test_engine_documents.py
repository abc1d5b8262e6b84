from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.engine.categories import classify
from mcp_federation.engine.documents import (
    MAX_PARAMETERS,
    base_name,
    operations,
    parameters,
    required_parameters,
    tool_document,
    tool_spec,
)
from mcp_federation.engine.priors import static_specs
from mcp_federation.engine.text import name_words
from mcp_federation.engine.types import MCPCategory

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "operation": {"type": "string", "enum": ["inspect", "pack", 3], "description": "what to do"},
        "sourcePath": {"type": "string"},
        "options": {"properties": {"depth": {"description": "levels"}}},
        "files": {"type": "array", "items": {"properties": {"encoding": {"description": "charset"}}}},
        "odd": True,
    },
    "required": ["operation", 7, "sourcePath"],
}
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["properties", "items", "required", "enum", "description", "operation"])
            | st.text(),
            inner,
        )
    ),
    max_leaves=12,
)


def test_a_document_holds_names_as_words_title_description_server_and_parameters_at_any_depth() -> None:
    spec = tool_spec(
        "archiver.packFiles",
        "acme",
        description="Packs.",
        title="Packer",
        server="archiver",
        input_schema=SCHEMA,
    )
    text = tool_document(spec).text
    for expected in (
        "pack Files",
        "archiver",
        "Packer",
        "Packs.",
        "what to do",
        "source Path",
        "levels",
        "charset",
    ):
        assert expected in text
    assert "acme" not in text


def test_a_spec_tells_where_the_tool_is_and_whether_it_can_run() -> None:
    spec = tool_spec(
        "clock", "acme", description="The time.", executable=False, source="https://acme.example"
    )
    assert spec.name == spec.metadata["federated_name"] == "clock@acme"
    assert spec.metadata["node"] == "acme"
    assert spec.metadata["local_name"] == "clock"
    assert spec.metadata["available"]
    assert not spec.runnable
    assert tool_spec("clock", "acme").runnable


def test_what_a_tool_can_do_is_read_from_its_operation_parameter() -> None:
    assert tool_spec("t", "n", input_schema=SCHEMA).capabilities == ["inspect", "pack"]
    assert operations({"properties": {"text": {"type": "string"}}}) == []
    assert operations({"properties": []}) == []


def test_required_parameters_are_the_names_among_what_is_required() -> None:
    assert required_parameters(SCHEMA) == ["operation", "sourcePath"]
    assert required_parameters({"required": "operation"}) == []
    assert required_parameters(None) == []


def test_a_schema_with_very_many_parameters_is_cut() -> None:
    wide: dict[str, object] = {"properties": {str(index): {} for index in range(10 * MAX_PARAMETERS)}}
    assert len(list(parameters(wide))) == MAX_PARAMETERS


def test_a_schema_of_any_depth_is_read_to_a_bounded_depth() -> None:
    deep: dict[str, Any] = {}
    for level in range(5_000):
        deep = {"properties": {f"level{level}": deep}}
    assert len(list(parameters(deep))) == 5


@given(json_values)
def test_no_schema_however_odd_breaks_a_document(schema: Any) -> None:
    assert len(list(parameters(schema))) <= MAX_PARAMETERS
    assert isinstance(required_parameters(schema), list)
    assert isinstance(operations(schema), list)


@pytest.mark.parametrize(
    ("name", "base"), [("clock", "clock"), ("clock@acme", "clock"), ("a@b@c", "a@b"), ("@scoped", "@scoped")]
)
def test_the_base_name_is_without_the_node(name: str, base: str) -> None:
    assert base_name(name) == base


@pytest.mark.parametrize(
    ("name", "description", "category"),
    [
        ("fetch", "Fetch a web page by its URL", MCPCategory.WEB_INFORMATION),
        ("get_current_time", "Get the current time in a timezone", MCPCategory.WEB_INFORMATION),
        ("unzip", "Unpack an archive into a folder", MCPCategory.DATA_PROCESSING),
        ("send_email", "Send a message to somebody", MCPCategory.COMMUNICATION),
        ("git_commit", "Record changes to the repository", MCPCategory.DEVELOPMENT),
        ("git", "Data and files.", MCPCategory.DEVELOPMENT),
        ("qwerty", "asdf", MCPCategory.DATA_PROCESSING),
        ("", "", MCPCategory.DATA_PROCESSING),
    ],
)
def test_a_tool_is_classified_by_its_words(name: str, description: str, category: MCPCategory) -> None:
    assert classify(name_words(name), description) is category


def test_the_priors_are_classified_as_they_are_listed() -> None:
    listed = {spec.name: spec.category for spec in static_specs()}
    found = {spec.name: classify(name_words(spec.name), spec.description) for spec in static_specs()}
    assert found == listed


@given(st.text(), st.text())
def test_every_text_has_one_category_and_always_the_same(name: str, text: str) -> None:
    assert classify(name, text) is classify(name, text)
