"""MCP's own params and result, as far as the federation reads them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.contract.mcp import CallParams, CallResult, decode_params, decode_result
from mcp_federation.contract.messages import encode
from mcp_federation.errors import InvalidRequest

TEXTS = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
PICTURE = {"type": "image", "data": "AAAA", "mimeType": "image/png"}


def test_params_and_results_come_back_from_the_wire() -> None:
    params = CallParams(name="a", arguments={"x": [1, None]})
    assert decode_params(encode(params)) == params
    result = CallResult(content=TEXTS, structured_content={"a": 1}, is_error=True)
    assert decode_result(encode(result)) == result
    assert json.loads(encode(result)).keys() == {"content", "structuredContent", "isError"}


def test_the_name_and_the_arguments_may_be_left_out() -> None:
    assert decode_params(b"{}") == CallParams(name="", arguments={})


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (CallResult(), ""),
        (CallResult(content=TEXTS), "one\ntwo"),
        (CallResult(content=[*TEXTS, PICTURE]), [*TEXTS, PICTURE]),
        (CallResult(content=TEXTS, structured_content={"a": 1}), {"a": 1}),
        (CallResult(content=TEXTS, structured_content={"result": [1]}), [1]),
        (CallResult(content=TEXTS, structured_content={"result": 1, "more": 2}), {"result": 1, "more": 2}),
        (CallResult(content=TEXTS, structured_content=0), 0),
    ],
)
def test_a_plain_caller_gets_the_most_structured_there_is(result: CallResult, value: object) -> None:
    assert result.value == value


def test_the_text_of_a_result_passes_over_what_is_no_text() -> None:
    assert CallResult(content=[TEXTS[0], PICTURE, TEXTS[1]]).text == "one\ntwo"


@given(st.binary(max_size=100))
def test_any_bytes_are_params_or_an_invalid_request(payload: bytes) -> None:
    for decode in (decode_params, decode_result):
        try:
            decode(payload)
        except InvalidRequest:
            continue


@pytest.mark.parametrize(
    "payload",
    [b"[]", b'{"arguments":[]}', b'{"arguments":{"a":' + b"[" * 100_000, b'{"content":"text"}', b"\xff"],
)
def test_what_is_neither_is_refused(payload: bytes) -> None:
    for decode in (decode_params, decode_result):
        if b"content" in payload and decode is decode_params:
            continue
        if b'"arguments":[]' in payload and decode is decode_result:
            continue
        with pytest.raises(InvalidRequest):
            decode(payload)
