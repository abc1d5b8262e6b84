"""The digest: another one when, and only when, something that a model or a caller can see is another."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import Raw

from mcp_federation.contract.digest import canonical_tool, has_digest, tool_digest
from mcp_federation.contract.messages import Tool, decode, encode
from mcp_federation.errors import InvalidRequest

MARK = "\ue000"
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
BIG = st.integers(2**53, 2**70) | st.integers(-(2**70), -(2**53))
TEXTS = st.text(max_size=8) | st.text(max_size=8).map(MARK.__add__)


def values(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=8,
    )


SCHEMAS = st.dictionaries(TEXTS, values(INTEGERS | BIG), max_size=4)
TOOLS = st.fixed_dictionaries(
    {"name": st.text(min_size=1, max_size=20)},
    optional={
        "title": TEXTS,
        "description": TEXTS,
        "version": TEXTS,
        "inputSchema": SCHEMAS,
        "outputSchema": SCHEMAS,
        "annotations": SCHEMAS,
        "parameters": st.lists(TEXTS, max_size=3),
    },
)


def read(fields: dict[str, Any], **how: Any) -> Tool:
    return decode(json.dumps(fields, **how).encode(), Tool)


def shuffled(value: Any, order: Callable[[list[str]], list[str]]) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key], order) for key in order(list(value))}
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    return value


def digest_of(schema: str) -> str:
    return tool_digest(Tool(name="a", input_schema=Raw(schema.encode())))


@given(TOOLS, st.randoms(use_true_random=False))
def test_key_order_and_whitespace_and_escapes_do_not_matter(fields: dict[str, Any], random: Any) -> None:
    other = shuffled(fields, lambda keys: random.sample(keys, len(keys)))
    assert tool_digest(read(fields, ensure_ascii=True)) == tool_digest(
        read(other, ensure_ascii=False, indent=3, separators=(" ,", " : "))
    )


@given(st.floats(-1e20, 1e20).map(round))
def test_a_whole_number_is_the_same_however_it_is_written(number: int) -> None:
    assert digest_of(f'{{"maximum":{number}}}') == digest_of(f'{{"maximum":{number}.0}}')
    assert digest_of(f'{{"maximum":{number}}}') == digest_of(f'{{"maximum":{number}e0}}')


@given(TOOLS, TOOLS)
def test_two_tools_share_a_digest_only_where_they_say_the_same(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    defaults = {"description": "", "inputSchema": {}, "version": "0.0.0", "parameters": []}
    same = canonical_text(defaults | one) == canonical_text(defaults | other)
    assert (tool_digest(read(one)) == tool_digest(read(other))) == same


def canonical_text(value: Any) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, float) and item.is_integer() and abs(item) < 1e21:
            return int(item)
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        return [plain(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(plain(value), sort_keys=True)


TOOL = {
    "name": "a",
    "title": "A",
    "description": "Says a.",
    "version": "1.0.0",
    "inputSchema": {"type": "object", "properties": {"x": {"type": "string"}}},
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
    "parameters": ["x", "y"],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "b"),
        ("name", "a "),
        ("title", "a"),
        ("description", "Says a.\u200b"),
        ("version", "1.0.1"),
        ("inputSchema", {"type": "object", "properties": {"x": {"type": "integer"}}}),
        ("outputSchema", {"type": "object", "title": ""}),
        ("outputSchema", {}),
        ("annotations", {"readOnlyHint": False}),
        ("annotations", {}),
        ("parameters", ["y", "x"]),
    ],
)
def test_a_change_of_any_visible_field_changes_the_digest(field: str, value: Any) -> None:
    digests = {
        tool_digest(read(TOOL)),
        tool_digest(read(TOOL | {field: value})),
        tool_digest(read({key: kept for key, kept in TOOL.items() if key != field} | {"name": "c"})),
    }
    assert len(digests) == 3


@given(TOOLS)
def test_a_default_that_is_spelled_out_changes_nothing(fields: dict[str, Any]) -> None:
    spelled: dict[str, Any] = {
        "title": None,
        "description": "",
        "version": "0.0.0",
        "inputSchema": {},
        "outputSchema": None,
        "annotations": None,
        "parameters": [],
    }
    assert tool_digest(read(spelled | fields)) == tool_digest(read(fields))


@given(BIG, st.integers(-3, 3))
def test_integers_beyond_a_double_differ_as_any_others_do(number: int, step: int) -> None:
    assume(abs(number + step) > 2**53)
    one, other = (digest_of(f'{{"maximum":{value}}}') for value in (number, number + step))
    assert (one == other) == (step == 0)


@given(BIG, st.text(alphabet="0123456789" + MARK, max_size=20))
def test_no_text_passes_for_an_integer_beyond_a_double(number: int, text: str) -> None:
    big = {"a": number, "b": number}
    digests = {
        digest_of(json.dumps(schema))
        for schema in (big, big | {"b": f"{MARK}{number}"}, big | {"b": MARK + text}, big | {"b": text})
    }
    assert len(digests) == len({f"{MARK}{number}", MARK + text, text}) + 1


@given(TOOLS)
def test_the_canonical_form_keeps_the_digest_and_is_checked_byte_by_byte(fields: dict[str, Any]) -> None:
    tool = read(fields)
    published = canonical_tool(tool)
    assert tool_digest(published) == tool_digest(tool)
    assert encode(canonical_tool(published)) == encode(published)
    assert encode(decode(encode(published), Tool)) == encode(published)


@given(TOOLS, TOOLS)
def test_a_digest_holds_for_its_tool_alone(one: dict[str, Any], other: dict[str, Any]) -> None:
    tool, digest = read(one), tool_digest(read(other))
    assert has_digest(tool, digest) == has_digest(canonical_tool(tool), digest)
    assert has_digest(tool, digest) == (tool_digest(tool) == digest)
    assert has_digest(tool, tool_digest(tool))


@pytest.mark.parametrize(
    "schema", ["", "{", "nan", '{"a":1e400}', "\ud800", "[" * 10_000, "[" * 201 + "]" * 201], ids=range(7)
)
def test_a_schema_without_a_canonical_form_is_refused(schema: str) -> None:
    tool = Tool(name="a", input_schema=Raw(schema.encode(errors="surrogatepass")))
    with pytest.raises(InvalidRequest):
        tool_digest(tool)
    with pytest.raises(InvalidRequest):
        canonical_tool(tool)
    assert not has_digest(tool, "sha256:" + "0" * 64)


def test_a_large_integer_beside_deep_nesting_is_refused_like_any_deep_nesting() -> None:
    for integer in (1, 9007199254740993):
        deep = f'{{"a":{integer},"b":' + "[" * 199 + "]" * 199 + "}"
        assert digest_of(deep)
        with pytest.raises(InvalidRequest):
            digest_of(deep.replace("[]", "[[]]"))


def test_a_digest_is_a_sha_256_in_hex() -> None:
    assert tool_digest(Tool(name="a")) == tool_digest(Tool(name="a", input_schema=Raw(b" { } ")))
    assert msgspec.convert(tool_digest(Tool(name="a")), str).startswith("sha256:")
