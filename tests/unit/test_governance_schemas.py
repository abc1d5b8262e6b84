"""Schemas and annotations: valid, within bounds, and complete in themselves."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.contract.messages import Finding
from mcp_federation.governance.verdict import decide
from tests.support.registrations import (
    a_tool,
    quality_findings,
    raw,
    rules,
    security_findings,
    unjudgeable,
)

REF = {"$ref": "#/$defs/a"}


def found(schema: Any) -> list[Finding]:
    return quality_findings(unjudgeable(a_tool(schema=schema)))


def of_type(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"description": "A thing", **schema}}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        of_type({"type": "integer", "minimum": 1}),
        of_type({"$ref": "#/$defs/b"}) | {"$defs": {"b": {"type": "string"}}},
        of_type({"type": "string", "pattern": r"^(?=.*[A-Z])\p{L}{8,}$"}),
        of_type({"items": [{"type": "string"}]}) | {"$schema": "http://json-schema.org/draft-07/schema#"},
        of_type({"maximum": 2**63}),
        of_type({"default": {"$ref": "not a reference, a value"}}),
    ],
)
def test_a_valid_schema_gives_no_finding(schema: Any) -> None:
    assert found(schema) == []


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        (of_type({"type": "strin"}), "inputSchema/properties/a/type"),
        (of_type({"required": True}), "inputSchema/properties/a/required"),
        (of_type({"pattern": "("}), "inputSchema/properties/a/pattern"),
        (of_type({"items": [{"type": "string"}]}), "inputSchema/properties/a/items"),
        ({"type": "object", "properties": {"$schema": "x"}}, "inputSchema/properties/$schema"),
        ({"type": "object", "properties": {"a/b": {"type": 5}}}, "inputSchema/properties/a~1b/type"),
    ],
)
def test_an_invalid_schema_is_refused_and_the_place_named(schema: Any, where: str) -> None:
    findings = [finding for finding in found(schema) if finding.rule == "invalid-schema"]
    assert [finding.where for finding in findings] == [where]
    assert decide(findings) == "rejected"


def test_an_output_schema_is_checked_as_well_and_may_be_of_any_type() -> None:
    assert quality_findings(unjudgeable(a_tool(output={"type": "array"}))) == []
    outputs: list[Any] = [{"type": "arr"}, 5, []]
    for output in outputs:
        assert rules(quality_findings(unjudgeable(a_tool(output=output)))) == {"invalid-schema"}


@pytest.mark.parametrize(
    "schema", [5, [], None, True, "object", {"type": "string"}, {"type": ["object", "null"]}]
)
def test_an_input_schema_of_something_else_than_an_object_is_refused(schema: Any) -> None:
    assert "input-schema-not-object" in rules(found(schema))


def test_an_input_schema_without_a_type_is_told() -> None:
    findings = found({"properties": {"a": {"description": "A thing"}}})
    assert (rules(findings), decide(findings)) == ({"input-schema-untyped"}, "approved")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("https://127.0.0.1:9/schema.json", "leads out of the schema"),
        ("file:///etc/passwd", "leads out of the schema"),
        ("//example.com/x", "leads out of the schema"),
        ("#/$defs/nowhere", "leads nowhere"),
        ("#/properties/a/items/7", "leads nowhere"),
        ("#/allOf/" + "9" * 5000, "leads nowhere"),
        ("#no-such-anchor", "no-such-anchor"),
        ("other.json", "other.json"),
        ("%%%", "%%%"),
    ],
)
def test_a_reference_out_of_the_schema_is_refused_and_not_followed(reference: str, why: str) -> None:
    (finding,) = found({**of_type({"$ref": reference, "items": {}}), "allOf": [{}]})
    assert (finding.rule, finding.severity) == ("unresolvable-reference", "high")
    assert why in finding.why


def test_an_unknown_dialect_is_refused() -> None:
    assert rules(found({"type": "object", "$schema": "https://example.com/my-dialect"})) == {
        "unresolvable-reference"
    }


def test_references_within_the_schema_are_followed_through_arrays_and_escapes() -> None:
    schema = of_type(
        {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/x~1y"}, {"$ref": "#/properties/a/anyOf/0"}]}
    )
    assert found(schema | {"$defs": {"x/y": {"type": "null"}}}) == []


@pytest.mark.parametrize("text", [b'{"a": "\\ud800"}', b'{"a": "\xff"}', b'{"maximum": 1e999}', b"{", b""])
@pytest.mark.parametrize("field", ["schema", "output", "annotations"])
def test_what_is_not_json_is_refused(text: bytes, field: str) -> None:
    fields: dict[str, Any] = {field: text}
    findings = quality_findings(unjudgeable(a_tool(**fields)))
    assert (rules(findings), decide(findings)) == ({"not-json"}, "rejected")


def _nested(levels: int) -> bytes:
    return b'{"not":' * levels + b"{}" + b"}" * levels


OVER_BOUNDS = {
    "bytes": raw({"type": "object", "description": "x" * 300_000}),
    "depth": _nested(80),
    "depth beyond a parser": _nested(20_000),
    "values": raw({"type": "object", "properties": {str(number): {} for number in range(20_001)}}),
    "patterns": raw(
        {"type": "object", "patternProperties": {f"(a{{1,100}}){{1,{n + 9}}}": {} for n in range(40)}}
    ),
    "references": raw({"type": "object", "$defs": {"a": {}}, "anyOf": [REF] * 300}),
    "endless": raw(
        {"type": "object", "$defs": {"a": {"allOf": [REF, REF], "oneOf": [REF, REF]}}, "not": REF}
    ),
    "endless from the root": raw({"type": "object", "anyOf": [{"$ref": "#"}]}),
    "unfolding": raw(
        {
            "type": "object",
            "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
            | {"d40": {}},
            "$ref": "#/$defs/d0",
        }
    ),
    "unevaluated": raw(
        {
            "type": "object",
            "unevaluatedProperties": False,
            "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(9)} | {"d9": {}},
            "$ref": "#/$defs/d0",
        }
    ),
    "inner ids": raw(
        {
            "$id": "http://a/root",
            "type": "object",
            "$defs": {
                f"d{n}": {
                    "$id": f"d{n}",
                    "anyOf": [{"$ref": f"d{(n + 1) % 30}"}, {"$ref": f"d{(n + 7) % 30}"}],
                }
                for n in range(30)
            },
            "$ref": "d0",
        }
    ),
}


@pytest.mark.parametrize("case", OVER_BOUNDS)
def test_a_schema_that_would_cost_too_much_is_refused_at_once(case: str) -> None:
    registration = unjudgeable(a_tool(schema=bytes(OVER_BOUNDS[case])))
    began = time.process_time()
    findings = quality_findings(registration) + security_findings(registration)
    assert time.process_time() - began < 2
    assert "schema-over-bounds" in rules(findings)


def test_a_recursive_schema_that_goes_into_the_value_is_valid() -> None:
    either = {"anyOf": [{"$ref": f"#/$defs/node{number}"} for number in range(8)]}
    nodes = {
        f"node{number}": {
            "type": "object",
            "properties": {"children": {"type": "array", "items": either}, "next": {"$ref": "#"}},
        }
        for number in range(8)
    }
    schema = {"type": "object", "$defs": nodes, "properties": {"tree": {"description": "A tree", **either}}}
    assert found(schema) == []


def test_parameters_called_like_keywords_are_no_keywords() -> None:
    properties = {"id": {"$ref": "#/$defs/b"}} | {f"p{number}": {"$ref": "#/$defs/b"} for number in range(20)}
    assert found({"type": "object", "properties": properties, "$defs": {"b": {"type": "string"}}}) == []


def test_a_large_schema_is_told() -> None:
    properties = {
        f"parameter_{number}": {"type": "string", "description": "x" * 100} for number in range(300)
    }
    findings = found({"type": "object", "properties": properties})
    assert [finding.where for finding in findings if finding.rule == "schema-large"] == [
        "inputSchema",
        "inputSchema/properties",
    ]


def test_undescribed_parameters_are_told_in_one_finding() -> None:
    (finding,) = found({"type": "object", "properties": {f"p{number}": {} for number in range(9)}})
    assert (finding.rule, finding.severity) == ("parameter-undescribed", "info")
    assert finding.why == "no description of p0, p1, p2, p3, p4 and 4 more"


@pytest.mark.parametrize(
    ("annotations", "where"),
    [
        ([], "annotations"),
        ("read-only", "annotations"),
        ({"readOnlyHint": "yes"}, "annotations/readOnlyHint"),
        ({"title": "Add", "destructiveHint": 0}, "annotations/destructiveHint"),
    ],
)
def test_annotations_that_cannot_be_relied_on_are_quarantined(annotations: Any, where: str) -> None:
    (finding,) = quality_findings(unjudgeable(a_tool(annotations=annotations)))
    assert (finding.rule, finding.severity, finding.where) == ("invalid-annotations", "medium", where)


def test_valid_annotations_give_no_finding() -> None:
    annotations = {"readOnlyHint": True, "openWorldHint": None, "title": "Add"}
    assert quality_findings(unjudgeable(a_tool(annotations=annotations))) == []


_keywords = st.sampled_from(
    [
        "type",
        "properties",
        "$ref",
        "$defs",
        "items",
        "allOf",
        "pattern",
        "$schema",
        "$id",
        "enum",
        "description",
        "a",
    ]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from(["object", "string", "#", "#/$defs/a", "#/properties", "http://x/", "("]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keywords | st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(_values, _values, _values)
@settings(max_examples=200)
def test_no_json_breaks_the_checks(schema: Any, output: Any, annotations: Any) -> None:
    registration = unjudgeable(a_tool(schema=schema, output=output, annotations=annotations))
    findings = quality_findings(registration) + security_findings(registration)
    for finding in findings:
        assert (finding.where + finding.why).isprintable()
        assert len(finding.where) < 500


@given(st.binary(max_size=60))
def test_no_bytes_break_the_checks(text: bytes) -> None:
    quality_findings(unjudgeable(a_tool(schema=text)))


def test_a_finding_about_a_huge_value_is_short() -> None:
    value: Any = {"type": "x" * 20_000}
    for _ in range(25):
        value = {"properties": {"long " * 100: value}}
    findings = [finding for finding in found({"type": "object", **value}) if finding.rule == "invalid-schema"]
    assert [len(json.dumps(finding.where + finding.why)) < 800 for finding in findings] == [True]
