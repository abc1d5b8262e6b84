"""Names: what may name a node or a tool, and what a subject token or an alias makes of them."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.contract.names import (
    MAX_LOCAL_NAME,
    NODE_NAME,
    alias,
    check_local_name,
    check_node_name,
    federated_name,
    from_token,
    local_name,
    split_federated_name,
    to_token,
)
from mcp_federation.errors import InvalidRequest

LOCAL_NAMES = st.text(min_size=1, max_size=64)
NODE_NAMES = st.from_regex(NODE_NAME, fullmatch=True)
KV_KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")


@given(LOCAL_NAMES)
def test_any_name_comes_back_from_its_token(name: str) -> None:
    assert from_token(to_token(name)) == name


@given(LOCAL_NAMES)
def test_a_token_is_one_legal_subject_token_and_a_legal_kv_key(name: str) -> None:
    token = to_token(name)
    assert KV_KEY.fullmatch(token)
    assert not set(token) & set(" .*>$\t\r\n\0")


@given(st.lists(LOCAL_NAMES, unique=True, min_size=2, max_size=20))
def test_two_names_never_share_a_token(names: list[str]) -> None:
    assert len({to_token(name) for name in names}) == len(names)


@given(st.text(alphabet="=2E0ae.x-_", max_size=12))
def test_a_text_is_either_a_token_of_exactly_one_name_or_refused(text: str) -> None:
    try:
        name = from_token(text)
    except InvalidRequest:
        return
    assert to_token(name) == text


@pytest.mark.parametrize(
    "token", ["", ".", "*", ">", "a b", "=", "=2", "=2e", "=GG", "=61", "=FF", "=C3", "ü", "a\n", "$SRV"]
)
def test_a_token_that_no_name_yields_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        from_token(token)


def test_names_of_the_usual_kind_stay_readable() -> None:
    assert to_token("get_current-time2") == "get_current-time2"
    assert to_token("time.get") == "time=2Eget"


@pytest.mark.parametrize("name", ["", "x" * (MAX_LOCAL_NAME + 1), "ü" * (MAX_LOCAL_NAME // 2 + 1), "\ud800"])
def test_a_name_that_is_empty_too_long_or_no_unicode_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_local_name(name)
    with pytest.raises(InvalidRequest):
        to_token(name)


def test_the_longest_name_is_taken() -> None:
    assert check_local_name("ü" * (MAX_LOCAL_NAME // 2))


@pytest.mark.parametrize("name", ["a", "acme", "a-1", "x" * 63])
def test_a_dns_label_may_name_a_node(name: str) -> None:
    assert check_node_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a_b", "a@b", "x" * 64, "ü", "a\n", " a"])
def test_anything_else_may_not_name_a_node(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_node_name(name)


@given(LOCAL_NAMES, NODE_NAMES)
def test_a_federated_name_splits_into_what_it_was_made_of(local: str, node: str) -> None:
    assert split_federated_name(federated_name(local, node)) == (local, node)


@pytest.mark.parametrize("name", ["plain", "@acme", "tool@", "tool@Not-A-Node", "tool@a.b", ""])
def test_a_name_without_a_node_at_its_end_is_all_local(name: str) -> None:
    assert split_federated_name(name) == (name, None)


def test_a_tool_of_a_server_is_named_after_both() -> None:
    assert local_name("time", "get_current_time") == "time.get_current_time"


@given(st.one_of(LOCAL_NAMES, st.builds(federated_name, LOCAL_NAMES, NODE_NAMES)))
def test_an_alias_is_what_llm_clients_take(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", alias(name))


@given(st.lists(st.text(alphabet="ab_.@ü", min_size=1, max_size=80), unique=True, min_size=2, max_size=20))
def test_aliases_of_different_names_differ(names: list[str]) -> None:
    aliases = sorted(alias(name) for name in names)
    assert all(one != other for one, other in pairwise(aliases))


def test_a_name_that_is_an_alias_already_is_kept_and_another_stays_readable() -> None:
    assert alias("get-time_2") == "get-time_2"
    assert alias("time.get_current_time@acme").startswith("time_get_current_time_acme_")
    assert len(alias("x" * 65)) == 64
