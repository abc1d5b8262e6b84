"""Errors: one tree, whose codes survive the wire."""

import pytest

from mcp_federation import errors
from mcp_federation.contract.messages import ErrorReply, decode, encode, error_reply, raise_error_reply
from mcp_federation.errors import FederationError, InternalError, Overloaded, error_from

KINDS = [getattr(errors, name) for name in errors.__all__ if name not in ("FederationError", "error_from")]


def test_every_error_has_a_code_of_its_own_and_an_http_status() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert all(400 <= kind.status < 600 and kind.title for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_from_the_wire_as_itself(kind: type[FederationError]) -> None:
    payload = encode(error_reply(kind("why", {"where": "/args/0"})))
    with pytest.raises(kind) as raised:
        raise_error_reply(payload)
    assert type(raised.value) is kind
    assert (raised.value.message, raised.value.details) == ("why", {"where": "/args/0"})


def test_a_code_from_a_later_version_becomes_an_internal_error() -> None:
    error = error_from("from_the_future", "why")
    assert type(error) is InternalError
    assert error.message == "why"


def test_what_is_no_error_reply_leaves_open_what_ran() -> None:
    with pytest.raises(InternalError):
        raise_error_reply(b'{"type":"cancel","request_id":"1"}')


def test_details_belong_to_the_error_alone() -> None:
    details = {"retry_after_ms": 100}
    error = Overloaded("full", details)
    details["retry_after_ms"] = 0
    assert error.details == {"retry_after_ms": 100}
    assert decode(encode(error_reply(Overloaded("full"))), ErrorReply).details == {}


def test_only_errors_after_which_nothing_ran_invite_a_retry() -> None:
    assert {kind.code for kind in KINDS if kind.ran is not False} == {
        "cancelled",
        "connection_lost",
        "deadline_exceeded",
        "internal_error",
        "node_lost",
        "outcome_forgotten",
        "payload_too_large",
        "server_unavailable",
        "tool_failed",
    }
