"""Seals and orders: what governance and its operators signed is believed, and nothing else."""

import base64
import json
import time
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.contract.messages import Case, Ruling, Verdict, encode
from mcp_federation.errors import ApprovalRefused, InvalidRequest, Unauthorized
from mcp_federation.trust import orders
from mcp_federation.trust.keys import trusted
from mcp_federation.trust.orders import OrderVerifier, sign_order
from mcp_federation.trust.seals import Sealer, SealVerifier
from tests.support.registrations import a_tool

DIGEST = "sha256:" + "0" * 64
KEY = Ed25519PrivateKey.generate()
SEALER = Sealer(KEY)
VERIFIER = SealVerifier([SEALER.public])
RULING = Ruling(node="acme", name="größe €", digest=DIGEST, decision="revoked", by="ann", at=1.25)
OPERATOR = Ed25519PrivateKey.generate()
OPERATORS = OrderVerifier([trusted(OPERATOR.public_key())])


def refusal(payload: bytes, verifier: SealVerifier = VERIFIER) -> str:
    with pytest.raises(ApprovalRefused) as caught:
        verifier.open(payload, Ruling)
    return caught.value.message


def test_what_was_sealed_is_read_as_it_was() -> None:
    sealed = SEALER.seal(RULING)
    assert VERIFIER.open(encode(sealed), Ruling) == sealed
    tool = a_tool(schema={"maximum": 2**63, "b": 1, "a": [1.5, None]})
    verdict = Verdict(node="acme", name="a", digest=DIGEST, decision="quarantined")
    case = SEALER.seal(Case(node="acme", name="a", verdict=verdict, at=time.time(), pending=tool))
    assert VERIFIER.open(encode(case), Case).verdict == verdict


@pytest.mark.parametrize(
    "change",
    [{"name": "other"}, {"revoked_before": 9.0}, {"by": "eve"}, {"decision": "approved"}, {"seal": ""}],
)
def test_a_seal_covers_every_field(change: dict[str, Any]) -> None:
    assert refusal(encode(msgspec.structs.replace(SEALER.seal(RULING), **change)))


def test_a_field_from_the_future_is_passed_over_and_covered_nonetheless() -> None:
    fields = {**json.loads(encode(RULING)), "from_the_future": [1]}
    body = json.dumps({**fields, "seal": _seal_of(fields)}).encode()
    assert VERIFIER.open(body, Ruling).node == "acme"
    assert refusal(body.replace(b"[1]", b"[2]"))


def _seal_of(fields: dict[str, Any]) -> str:
    from hashlib import sha256

    digest = sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()
    headers = {"kid": SEALER.public.key_id, "typ": "mcpfed-seal+jwt"}
    claims = {"sub": "ruling", "body": f"sha256:{digest}"}
    return jwt.encode(claims, KEY, algorithm="EdDSA", headers=headers)


def test_a_seal_of_another_key_kind_or_message_does_not_hold() -> None:
    sealed = SEALER.seal(RULING)
    assert "not trusted here" in refusal(encode(sealed), SealVerifier([]))
    assert "not trusted here" in refusal(encode(Sealer(Ed25519PrivateKey.generate()).seal(RULING)))
    other = SEALER.seal(msgspec.structs.replace(RULING, at=2.0))
    assert "another message" in refusal(encode(msgspec.structs.replace(RULING, seal=other.seal)))
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": SEALER.public.key_id}).encode())
    unsigned = header.decode().rstrip("=") + "." + sealed.seal.split(".")[1] + "."
    assert refusal(encode(msgspec.structs.replace(RULING, seal=unsigned)))
    with pytest.raises(InvalidRequest):
        VERIFIER.open(b"{}", Ruling)


def test_what_an_earlier_key_sealed_is_opened_after_a_change_of_the_key() -> None:
    payload = encode(SEALER.seal(RULING))
    renewed = Ed25519PrivateKey.generate()
    assert Sealer(renewed, [SEALER.public]).open(payload, Ruling).name == RULING.name
    refusal(payload, Sealer(renewed))


def an_order(key: Ed25519PrivateKey = OPERATOR, **fields: Any) -> str:
    said: dict[str, Any] = {"by": "ann", "reason": "seen", "after": "", "order_id": "1", **fields}
    return sign_order(key, "approve", "acme", "a", DIGEST, **said)


def test_an_operators_order_is_opened_as_it_was_given() -> None:
    order, key_id = OPERATORS.open(an_order(reason="fine"), "acme", "a")
    assert (order.act, order.digest, order.by, order.reason, order.jti) == (
        "approve",
        DIGEST,
        "ann",
        "fine",
        "1",
    )
    assert key_id == trusted(OPERATOR.public_key()).key_id


def test_an_order_of_somebody_else_on_another_tool_or_of_yesterday_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Unauthorized, match="operator"):
        OPERATORS.open(an_order(Ed25519PrivateKey.generate()), "acme", "a")
    with pytest.raises(Unauthorized, match="another tool"):
        OPERATORS.open(an_order(), "acme", "b")
    with pytest.raises(Unauthorized, match="does not parse"):
        OPERATORS.open(an_order() + "x", "acme", "a")
    with pytest.raises(Unauthorized, match="another kind"):
        # A seal or an approval is no order, whoever signed it.
        OrderVerifier([SEALER.public]).open(SEALER.seal(RULING).seal, "acme", "a")
    monkeypatch.setattr(orders, "LIFE_SECONDS", -3600)
    with pytest.raises(Unauthorized, match="too old"):
        OPERATORS.open(an_order(), "acme", "a")
