"""The bounds on what a request may bring, and the words of errors."""

import asyncio
import json
from collections.abc import Callable
from threading import Thread, current_thread
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from mcp_federation.contract import text
from mcp_federation.contract.text import check_utf8, has_lone_surrogate, mend_surrogates, nests_deeper
from mcp_federation.edge import incoming
from mcp_federation.edge.incoming import BodyReader
from mcp_federation.edge.problems import problem_response
from mcp_federation.errors import InvalidArguments, Overloaded, error_from

values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\a,:'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[{"\\'), inner, max_size=4),
    max_leaves=40,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(value=values, piece=st.sampled_from([1, 3, text.PIECE]))
def test_depth_counts_levels_and_no_brackets_in_strings(value: Any, piece: int) -> None:
    body = json.dumps(value).encode()
    depth = depth_of(value)
    with patch.object(text, "PIECE", piece):
        assert not nests_deeper(body, depth)
        if depth:
            assert nests_deeper(body, depth - 1)


@given(body=st.binary(max_size=8) | st.text(max_size=8).map(str.encode), piece=st.integers(1, 9))
def test_text_is_told_from_other_bytes_in_pieces_of_any_size(body: bytes, piece: int) -> None:
    def refuses(check: Callable[[bytes], object]) -> bool:
        try:
            check(body)
        except UnicodeDecodeError:
            return True
        return False

    with patch.object(text, "PIECE", piece):
        assert refuses(check_utf8) is refuses(bytes.decode)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 30_000_000 + b"]" * 30_000_000,
        b'"' + b'\\"[' * 300_000,
        b"[]" * 500_000,
        b'["' * 300_000,
        b'[{"a":1},' * 500_000,
    ],
)
@pytest.mark.timeout(10)
def test_hostile_bodies_are_measured_in_linear_time(body: bytes) -> None:
    nests_deeper(body, 64)


@example(value="\ud83d\\\udd54")
@given(value=st.text(alphabet="\\ud83d\ud83d\udd54🕔"))
def test_half_a_surrogate_pair_is_found_and_mended_and_no_whole_one(value: str) -> None:
    # Python reads halves that stand side by side as one, and so does UTF-16.
    read = json.loads(json.dumps(value))
    assert has_lone_surrogate(json.dumps(value).encode()) is any(
        ord(each) in range(0xD800, 0xE000) for each in read
    )
    mended = json.loads(mend_surrogates(json.dumps(value).encode()))
    assert mended == "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in read)


class Noted:
    """What a decoder asks somebody else to make."""


@pytest.mark.parametrize(("body", "aside"), [(b"[1]", False), (b"[1" + b" " * 100 + b"]", True)])
async def test_a_large_body_is_parsed_without_holding_up_the_others(
    monkeypatch: pytest.MonkeyPatch, body: bytes, aside: bool
) -> None:
    monkeypatch.setattr(incoming, "PARSE_ASIDE", 100)
    threads: list[Thread] = []

    def note(kind: type, _: object) -> object:
        threads.append(current_thread())
        return kind()

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    decoder = msgspec.json.Decoder(list[Noted], dec_hook=note)
    assert isinstance((await BodyReader(1000, 10).read(request, decoder))[0], Noted)
    assert (threads[0] is not current_thread()) is aside


async def test_a_body_that_keeps_coming_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "BODY_TIMEOUT", 0.05)
    monkeypatch.setattr(incoming, "SLOWEST_LINE", 1)
    pieces = [b"[1,", b"2]"]

    async def receive() -> Message:
        there = asyncio.Event()
        asyncio.get_running_loop().call_later(0 if len(pieces) == 2 else 0.1, there.set)
        await there.wait()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    body = await BodyReader(100, 8).read(Request(scope, receive), msgspec.json.Decoder())
    assert body == [1, 2]


def test_a_problem_carries_the_details_beside_its_own_members() -> None:
    error = InvalidArguments("no such thing", {"path": "/a", "status": 200, "detail": "forged"})
    response = problem_response(error)
    assert response.status_code == 422
    assert response.media_type == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "urn:mcp-federation:error:invalid_arguments",
        "title": "Invalid arguments",
        "status": 422,
        "detail": "no such thing",
        "code": "invalid_arguments",
        "path": "/a",
    }


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ({"retry_after_ms": 100}, "1"),
        ({"retry_after_ms": 2100}, "3"),
        ({}, "1"),
        ({"retry_after_ms": "x"}, "1"),
    ],
)
def test_overload_says_in_whole_seconds_when_to_come_again(details: dict[str, Any], seconds: str) -> None:
    assert problem_response(Overloaded("full", details)).headers["Retry-After"] == seconds


def test_an_error_of_http_itself_has_a_code_too() -> None:
    problem = json.loads(bytes(problem_response(HTTPException(415, "json only")).body))
    assert problem["code"] == "unsupported_media_type"
    assert problem["detail"] == "json only"


def test_an_error_that_only_a_newer_peer_knows_is_an_internal_one() -> None:
    assert json.loads(bytes(problem_response(error_from("from_the_future", "?")).body))["status"] == 500
