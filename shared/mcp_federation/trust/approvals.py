"""Approvals: what governance signs when it lets a tool be published, and how everyone checks it.

An approval is a JWT (EdDSA) that binds one digest, and what governance saw in that text, to one federated
name until it expires. The broker and the publishing node need not be trusted for it.
"""

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.contract.digest import has_digest, sha256_digest
from mcp_federation.contract.messages import CatalogEntry
from mcp_federation.contract.names import federated_name
from mcp_federation.errors import ApprovalRefused
from mcp_federation.trust.keys import TrustedKey
from mcp_federation.trust.seals import SealVerifier
from mcp_federation.trust.signing import Distrusted, Keyring, Signer, check_times

TYPE: Final = "mcpfed-approval+jwt"
_MOMENT = 0.001


class Validity(NamedTuple):
    """When an approval was issued and when it expires, in Unix seconds."""

    issued: float
    expires: float


class Approver:
    """Signs approvals with a governance key."""

    def __init__(self, key: Ed25519PrivateKey, valid_for: timedelta = timedelta(days=30)) -> None:
        self._signer = Signer(key, TYPE)
        self._valid_for = valid_for
        self.public = self._signer.public

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
            claims["assessment"] = sha256_digest(assessment)
        return self._signer.sign(claims)


class _Claims(msgspec.Struct):
    """The claims of an approval."""

    sub: str
    digest: str
    iat: float
    exp: float
    nbf: float = 0.0
    assessment: str | None = None


class ApprovalVerifier:
    """Checks approvals against the governance keys that its owner trusts."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        keys = tuple(keys)
        self._approvals = Keyring(keys, TYPE, _Claims)
        self.seals = SealVerifier(keys)

    def verify(self, entry: CatalogEntry) -> Validity:
        """From when until when the entry's approval holds, where it holds now.

        Raises:
            ApprovalRefused: it does not hold; the message says why.
        """
        try:
            claims, _ = self._approvals.open(entry.approval)
            check_times(max(claims.iat, claims.nbf), claims.exp)
        except Distrusted as error:
            raise ApprovalRefused(f"the approval {error}") from None
        if claims.sub != federated_name(entry.tool.name, entry.node):
            raise ApprovalRefused("the approval is of another tool")
        if claims.digest != entry.digest:
            raise ApprovalRefused("the approval covers another digest")
        if not has_digest(entry.tool, entry.digest):
            raise ApprovalRefused("the published text is not the approved one")
        if claims.assessment != (None if entry.assessment is None else sha256_digest(entry.assessment)):
            raise ApprovalRefused("the published findings are not those of governance")
        return Validity(claims.iat, claims.exp)


def validity_of(approval: str) -> Validity:
    """What an approval says of its time; its signature is not looked at.

    Raises:
        ApprovalRefused: it is none.
    """
    try:
        claims: dict[str, Any] = jwt.decode(approval, options={"verify_signature": False})
        return Validity(float(claims["iat"]), float(claims["exp"]))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise ApprovalRefused("the approval does not parse") from None
