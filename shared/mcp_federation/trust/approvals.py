"""Approvals: what governance signs when it lets a tool be published, and how everyone checks it.

An approval is a JWT (EdDSA) that binds one digest, and what governance saw in that text, to one federated
name until it expires. The broker and the publishing node need not be trusted for it.
"""

import base64
import time
from collections.abc import Iterable
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple

import jwt
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mcp_federation.contract.digest import has_digest
from mcp_federation.contract.messages import CatalogEntry
from mcp_federation.contract.names import federated_name
from mcp_federation.errors import ApprovalRefused
from mcp_federation.trust.keys import TrustedKey, trusted
from mcp_federation.trust.seals import SealVerifier

TYPE: Final = "mcpfed-approval+jwt"
_ALGORITHM = "EdDSA"
_MOMENT = 0.001
MAX_HEADERS: Final = 64
"""How many different headers are remembered with the key that they name."""

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
    """Checks approvals against the governance keys that its owner trusts.

    A replica checks thousands at its start: what they have in common is read once, and the rest with msgspec.
    """

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        keys = tuple(keys)
        self._keys = {key.key_id: key.public for key in keys}
        self._headers: dict[str, Ed25519PublicKey] = {}
        self.seals = SealVerifier(keys)

    def verify(self, entry: CatalogEntry) -> Validity:
        """From when until when the entry's approval holds, where it holds now.

        Raises:
            ApprovalRefused: it does not hold; the message says why.
        """
        claims = self._claims(entry.approval)
        if claims.sub != federated_name(entry.tool.name, entry.node):
            raise ApprovalRefused("the approval is of another tool")
        if claims.digest != entry.digest:
            raise ApprovalRefused("the approval covers another digest")
        if not has_digest(entry.tool, entry.digest):
            raise ApprovalRefused("the published text is not the approved one")
        if claims.assessment != (None if entry.assessment is None else _hash(bytes(entry.assessment))):
            raise ApprovalRefused("the published findings are not those of governance")
        return Validity(claims.iat, claims.exp)

    def _claims(self, approval: str) -> "_Claims":
        signed, _, signature = approval.rpartition(".")
        header, _, payload = signed.partition(".")
        key = self._key(header)
        try:
            key.verify(_unpacked(signature), signed.encode())
            claims = _claims_decoder.decode(_unpacked(payload))
        except (InvalidSignature, ValueError):
            raise ApprovalRefused("the approval does not parse, or its signature does not hold") from None
        now = time.time()
        if claims.exp <= now - LEEWAY_SECONDS:
            raise ApprovalRefused("the approval has expired")
        if max(claims.iat, claims.nbf) > now + LEEWAY_SECONDS:
            raise ApprovalRefused("the approval does not hold yet")
        return claims

    def _key(self, packed: str) -> Ed25519PublicKey:
        """The key that a header names. Few headers occur, and thousands of approvals have the same."""
        known = self._headers.get(packed)
        if known is not None:
            return known
        try:
            header = _header_decoder.decode(_unpacked(packed))
        except ValueError:
            raise ApprovalRefused("the approval does not parse, or its signature does not hold") from None
        key = self._keys.get(header.kid)
        if key is None:
            raise ApprovalRefused("the approval is signed by a key that is not trusted here")
        if header.typ != TYPE or header.alg != _ALGORITHM or header.crit is not None:
            raise ApprovalRefused("the approval is of another kind")
        if len(self._headers) < MAX_HEADERS:
            self._headers[packed] = key
        return key


class _Header(msgspec.Struct):
    """What is read of a JWT's header (RFC 7515). Extensions that must be understood, `crit`, are not."""

    alg: str = ""
    kid: str = ""
    typ: str = ""
    crit: Any = None


class _Claims(msgspec.Struct):
    """The claims of an approval."""

    sub: str
    digest: str
    iat: float
    exp: float
    nbf: float = 0.0
    assessment: str | None = None


_header_decoder = msgspec.json.Decoder(_Header)
_claims_decoder = msgspec.json.Decoder(_Claims)


def _unpacked(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "==")


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
