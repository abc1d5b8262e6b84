"""What a server lists becomes what the node publishes."""

from pathlib import Path

import msgspec
import pytest
import semver
from hypothesis import example, given
from hypothesis import strategies as st
from mcp_types import Tool, ToolAnnotations

from mcp_federation.contract.digest import tool_digest
from mcp_federation.errors import InternalError, InvalidArguments
from mcp_federation.node.tools import MAX_VERSION, LocalTool, to_local_tools, to_semver


def listed(name: str = "now", **fields: object) -> Tool:
    return Tool.model_validate({"name": name, "inputSchema": {"type": "object"}, **fields})


def local(
    *tools: Tool, server: str = "time", version: str = "1.0.0", only: bool = False
) -> tuple[list[LocalTool], dict[str, str]]:
    return to_local_tools(server, list(tools), version=version, only_tool_is_server=only)


def one(tool: Tool) -> LocalTool:
    (found,), unfit = local(tool)
    assert not unfit
    return found


def test_a_tool_is_named_after_its_server() -> None:
    tool = one(listed("now"))
    assert (tool.tool.name, tool.remote_name, tool.server) == ("time.now", "now", "time")


def test_the_tool_of_a_one_tool_toolbox_goes_by_its_own_name() -> None:
    assert [tool.tool.name for tool in local(listed("now"), only=True)[0]] == ["now"]
    assert [tool.tool.name for tool in local(listed("a"), listed("b"), only=True)[0]] == ["time.a", "time.b"]


def test_all_that_a_model_sees_is_taken_over() -> None:
    tool = one(
        listed(
            title="Now",
            description="Tells the time.",
            outputSchema={"type": "object"},
            annotations=ToolAnnotations(read_only_hint=True),
        )
    ).tool
    assert (tool.title, tool.description, tool.version) == ("Now", "Tells the time.", "1.0.0")
    assert tool.output_schema is not None
    assert msgspec.json.decode(tool.output_schema) == {"type": "object"}
    assert tool.annotations is not None
    assert msgspec.json.decode(tool.annotations) == {"readOnlyHint": True}


def test_annotations_that_say_nothing_are_left_out() -> None:
    assert one(listed(annotations=ToolAnnotations())).tool.annotations is None


def test_the_order_of_the_parameters_is_the_servers() -> None:
    properties: dict[str, object] = {name: {} for name in ("zone", "format", "at")}
    tool = one(listed(inputSchema={"type": "object", "properties": properties}))
    assert tool.tool.parameters == ("zone", "format", "at")
    assert tool.digest == tool_digest(tool.tool)


@pytest.mark.parametrize("schema", [{"type": "object", "properties": []}, {"type": "object"}])
def test_a_schema_without_properties_has_no_parameters(schema: dict[str, object]) -> None:
    assert one(listed(inputSchema=schema)).tool.parameters == ()


def test_a_tool_that_cannot_be_published_costs_only_itself() -> None:
    tools, unfit = local(
        listed("good"),
        listed("x" * 300),
        listed("long", description="x" * 200_000),
        listed("good"),
        Tool(name="\ud800", input_schema={}),
        Tool(name="set", input_schema={"default": object()}),
    )
    assert [tool.tool.name for tool in tools] == ["time.good"]
    assert unfit.keys() == {"time." + "x" * 300, "time.long", "time.good", "time.\ud800", "time.set"}
    assert all(unfit.values())


@pytest.mark.parametrize(("support", "published"), [("required", 0), ("optional", 1), ("forbidden", 1)])
def test_a_tool_that_only_runs_as_a_task_cannot_be_called_and_is_not_published(
    support: str, published: int
) -> None:
    tools, unfit = local(listed(execution={"taskSupport": support}))
    assert (len(tools), "as a task only" in unfit.get("time.now", "")) == (published, not published)


def test_a_tool_without_a_description_has_an_empty_one() -> None:
    assert one(listed()).tool.description == ""


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.3", "1.2.3"),
        ("1.2.3-rc.1+build.5", "1.2.3-rc.1+build.5"),
        ("1.2", "1.2.0"),
        ("1", "1.0.0"),
        ("v2.1", "2.1.0"),
        ("v1.2.3", "1.2.3"),
        (" 1.2.3 ", "1.2.3"),
        ("01.02.03", "1.2.3"),
        ("1.2.3rc1", "1.2.3-rc1"),
        ("1.2.3.post4", "1.2.3-post4"),
        ("2025.9.25", "2025.9.25"),
        ("2025.09.25-01", "2025.9.25"),
        ("1.2.3-?!", "1.2.3"),
        ("", "0.0.0"),
        ("latest", "0.0.0"),
        ("\u0663.\u0661", "0.0.0"),
    ],
)
def test_a_version_becomes_a_semantic_one(version: str, expected: str) -> None:
    assert to_semver(version) == expected


@given(st.text() | st.from_regex(r"v?\d+(\.\d+){0,4}.*"))
@example("9" * 10_000)
@example("1.2." + "9" * 5_000 + "-a")
@example("1.2.3-" + "a" * 1000)
def test_every_version_becomes_a_semantic_one(version: str) -> None:
    found = to_semver(version)
    assert semver.Version.is_valid(found)
    assert to_semver(found) == found
    assert len(found) <= MAX_VERSION + len(".0.0-")


def test_many_tools_are_taken_over_fast_enough() -> None:
    tools, _ = local(*(listed(f"tool-{number}") for number in range(2000)))
    assert len({tool.tool.name for tool in tools}) == 2000


def test_arguments_that_do_not_fit_are_refused_with_their_place() -> None:
    schema = {"type": "object", "properties": {"days": {"type": "array", "items": {"type": "integer"}}}}
    tool = one(listed(inputSchema=schema))
    tool.check_arguments({"days": [1, 2]})
    with pytest.raises(InvalidArguments, match=r"time\.now") as refused:
        tool.check_arguments({"days": [1, "two"]})
    assert refused.value.details["problems"][0]["where"] == "/days/1"


def test_the_schema_of_a_tool_is_compiled_once() -> None:
    tool = one(listed())
    assert tool.check_arguments is tool.check_arguments


def test_a_schema_that_leads_elsewhere_is_followed_nowhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "schema.json"
    elsewhere.write_text("{}")
    tool = one(listed(inputSchema={"type": "object", "$ref": elsewhere.as_uri()}))
    with pytest.raises(InternalError, match="cannot be used"):
        tool.check_arguments({})
