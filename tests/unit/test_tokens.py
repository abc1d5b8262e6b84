"""Callers' tokens: exactly the right one, under the right scheme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.trust.tokens import token_matches

TOKENS = st.text(
    alphabet=st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["Z", "C"]), min_size=1
)


@given(TOKENS)
def test_the_bearer_of_the_token_is_let_in(token: str) -> None:
    assert token_matches(f"Bearer {token}", token)
    assert token_matches(f"bEARER {token} ", token)


@given(TOKENS, TOKENS)
def test_the_bearer_of_another_token_is_not(token: str, other: str) -> None:
    assert token_matches(f"Bearer {other}", token) == (other == token)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "secret",
        "Basic secret",
        "Bearersecret",
        "Bearer secre",
        "Bearer secrets",
        " Bearer secret",
        "Bearer secret, Bearer secret",
    ],
)
def test_anything_else_is_not(header: str | None) -> None:
    assert not token_matches(header, "secret")
