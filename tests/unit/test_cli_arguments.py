import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.cli.arguments import Word, coerce, coerce_arguments, parse_arguments

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_pair_is_split_at_its_first_equals_sign() -> None:
    assert parse_arguments("{}", ["query=a=b", "empty="]) == {"query": "a=b", "empty": ""}


def test_pairs_go_on_top_of_the_json_object() -> None:
    assert parse_arguments('{"a": 1, "b": 2}', ["b=3"]) == {"a": 1, "b": Word("3")}


@pytest.mark.parametrize("pair", ["word", "=value", ""])
def test_a_word_without_key_or_equals_sign_is_wrong_usage(pair: str) -> None:
    with pytest.raises(ValueError, match="is not key=value"):
        parse_arguments("{}", [pair])


@pytest.mark.parametrize("document", ["", "[1]", "{", '{"a": NaN}', '{"a": 1e999}', "[" * 100_000])
def test_args_that_are_no_json_object_are_wrong_usage(document: str) -> None:
    with pytest.raises(ValueError, match="--args"):
        parse_arguments(document, [])


@given(json_values)
def test_without_a_schema_a_value_is_json_where_it_parses(value: Any) -> None:
    assert coerce(json.dumps(value), frozenset()) == value


@given(st.text())
def test_any_text_stays_itself_for_a_string_parameter(text: str) -> None:
    assert coerce(text, frozenset({"string"})) == text


@given(st.text())
def test_any_text_becomes_a_value_that_json_can_carry(text: str) -> None:
    json.dumps(coerce(text, frozenset()), allow_nan=False)


@pytest.mark.parametrize(
    ("word", "schema", "value"),
    [
        ("5", {"type": "string"}, "5"),
        ("true", {"type": "string"}, "true"),
        ("5", {"type": "integer"}, 5),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("Europe/Berlin", {"type": "string"}, "Europe/Berlin"),
        ("five", {"type": "integer"}, "five"),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("5", {"anyOf": [{"type": "string"}, {"type": "null"}]}, "5"),
        ("5", {"type": ["string", "null"]}, "5"),
        ("5", {"type": ["string", "number"]}, 5),
        ("5.5", {"type": ["string", "integer"]}, "5.5"),
        ("5", {"enum": ["5", "6"]}, "5"),
        ("5", {"enum": [5, 6]}, 5),
        ("1", {"const": "1"}, "1"),
        ("read", {"$ref": "#/$defs/Operation"}, "read"),
        ("5", {"$ref": "#/$defs/Operation"}, "5"),
        ("5", {"$ref": "#/$defs/Loop"}, 5),
        ("5", {"$ref": "https://example.org/schema"}, 5),
        ("5", {"anyOf": [{"type": "string"}, {}]}, 5),
        ("5", True, 5),
        ("5", {}, 5),
        ("NaN", {"type": "number"}, "NaN"),
    ],
)
def test_the_schema_says_what_a_word_means(word: str, schema: Any, value: Any) -> None:
    root = {
        "properties": {"key": schema},
        "$defs": {"Operation": {"enum": ["read", "5"]}, "Loop": {"$ref": "#/$defs/Loop"}},
    }
    result = coerce_arguments({"key": Word(word)}, root)["key"]
    assert result == value
    assert type(result) is type(value)


def test_values_of_the_json_object_are_left_alone() -> None:
    schema = {"properties": {"a": {"type": "string"}}}
    assert coerce_arguments({"a": 5, "other": Word("6")}, schema) == {"a": 5, "other": 6}


@pytest.mark.parametrize("schema", [None, [], {"properties": []}, "text"])
def test_a_schema_that_makes_no_sense_says_nothing(schema: Any) -> None:
    assert coerce_arguments({"a": Word("5")}, schema) == {"a": 5}


def test_numbers_that_json_cannot_carry_stay_text() -> None:
    assert coerce("Infinity", frozenset({"number"})) == "Infinity"
    assert coerce("1e999", frozenset()) == "1e999"
    assert math.isclose(coerce("1e3", frozenset()), 1000)
