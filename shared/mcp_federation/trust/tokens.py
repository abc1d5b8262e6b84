"""Callers' bearer tokens."""

import hmac


def token_matches(authorization: str | None, token: str) -> bool:
    """Whether an `Authorization` header carries that bearer token; takes the same time whatever it holds."""
    scheme, _, presented = (authorization or "").partition(" ")
    # Both compared whole, so that neither a wrong scheme nor a wrong first letter answers sooner.
    right_scheme = hmac.compare_digest(scheme.lower().encode(), b"bearer")
    right_token = hmac.compare_digest(presented.strip().encode(), token.encode())
    return right_scheme and right_token
