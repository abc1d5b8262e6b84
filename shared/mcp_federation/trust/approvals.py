"""Approvals: what governance signs when it lets a tool be published, and how everyone checks it.

An approval is a JWT (EdDSA) that binds one digest, and what governance saw in that text, to one federated
name until it expires. The broker and the publishing node need not be trusted for it.
"""

import time
from collections.abc import Iterable
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.contract.digest import has_digest
from mcp_federation.contract.messages import CatalogEntry
from mcp_federation.contract.names import federated_name
from mcp_federation.errors import ApprovalRefused
from mcp_federation.trust.keys import TrustedKey, trusted
from mcp_federation.trust.seals import SealVerifier

TYPE: Final = "mcpfed-approval+jwt"
_ALGORITHM = "EdDSA"
_MOMENT = 0.001
_REQUIRED = ["sub", "digest", "exp", "iat"]
LEEWAY_SECONDS: Final = 30  # of clocks that differ between organisations


class Validity(NamedTuple):
    """When an approval was issued and when it expires, in Unix seconds."""

    issued: float
    expires: float


class Approver:
    """Signs approvals with a governance key."""

    def __init__(self, key: Ed25519PrivateKey, valid_for: timedelta = timedelta(days=30)) -> None:
        self._key = key
        self._valid_for = valid_for
        self.public = trusted(key.public_key())

    def approve(
        self, node: str, name: str, digest: str, assessment: bytes | None = None, *, after: float = 0.0
    ) -> str:
        """A signed approval of that digest under that name on that node, valid from now on.

        `assessment`: the encoded `Assessment` that is to be published with it. `after`: what a ruling
        revoked until, in Unix seconds; another worker's clock may be ahead of ours.
        """
        now = max(time.time(), after + _MOMENT)
        claims: dict[str, Any] = {
            "iss": "mcp-federation/governance",
            "sub": federated_name(name, node),
            "digest": digest,
            "iat": now,
            "exp": now + self._valid_for.total_seconds(),
        }
        if assessment is not None:
            claims["assessment"] = _hash(assessment)
        headers: dict[str, Any] = {"kid": self.public.key_id, "typ": TYPE}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers=headers)


class ApprovalVerifier:
    """Checks approvals against the governance keys that its owner trusts."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        keys = tuple(keys)
        self._keys = {key.key_id: key.public for key in keys}
        self.seals = SealVerifier(keys)

    def verify(self, entry: CatalogEntry) -> Validity:
        """From when until when the entry's approval holds, where it holds now.

        Raises:
            ApprovalRefused: it does not hold; the message says why.
        """
        claims = self._claims(entry.approval)
        if claims["sub"] != federated_name(entry.tool.name, entry.node):
            raise ApprovalRefused("the approval is of another tool")
        if claims["digest"] != entry.digest:
            raise ApprovalRefused("the approval covers another digest")
        if not has_digest(entry.tool, entry.digest):
            raise ApprovalRefused("the published text is not the approved one")
        if claims.get("assessment") != (None if entry.assessment is None else _hash(bytes(entry.assessment))):
            raise ApprovalRefused("the published findings are not those of governance")
        return Validity(float(claims["iat"]), float(claims["exp"]))

    def _claims(self, approval: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(approval)
            key = self._keys.get(header.get("kid", ""))
            if key is None:
                raise ApprovalRefused("the approval is signed by a key that is not trusted here")
            if header.get("typ") != TYPE:
                raise ApprovalRefused("the approval is of another kind")
            claims: dict[str, Any] = jwt.decode(
                approval, key, algorithms=[_ALGORITHM], leeway=LEEWAY_SECONDS, options={"require": _REQUIRED}
            )
        except jwt.ExpiredSignatureError:
            raise ApprovalRefused("the approval has expired") from None
        except jwt.PyJWTError:
            raise ApprovalRefused("the approval does not parse, or its signature does not hold") from None
        return claims


def _hash(assessment: bytes) -> str:
    return "sha256:" + sha256(assessment).hexdigest()


def issued_at(approval: str) -> float:
    """When an approval was issued, in Unix seconds; its signature is not looked at.

    Raises:
        ApprovalRefused: it is none.
    """
    try:
        return float(jwt.decode(approval, options={"verify_signature": False})["iat"])
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise ApprovalRefused("the approval does not parse") from None
