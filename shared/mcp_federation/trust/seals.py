"""Seals: governance's signature over a message of its own that others, or its own workers, read later.

A seal is a JWT (EdDSA) over the hash of the message's JSON with sorted keys, without the seal. What stands
in a stream is believed because of it: neither the broker nor whoever may publish there need be trusted.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final, TypeVar

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.contract.messages import AuditRecord, Case, ClaimBatch, Ruling, decode, encode
from mcp_federation.errors import ApprovalRefused
from mcp_federation.trust.keys import TrustedKey, trusted

TYPE: Final = "mcpfed-seal+jwt"
_ALGORITHM = "EdDSA"

S = TypeVar("S", Ruling, Case, ClaimBatch, AuditRecord)


class SealVerifier:
    """Checks seals against the governance keys that its owner trusts."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._keys = {key.key_id: key.public for key in keys}

    def open(self, payload: bytes, kind: type[S]) -> S:
        """The message in a payload, which a trusted key sealed just so.

        Raises:
            InvalidRequest: the payload is no such message.
            ApprovalRefused: its seal does not hold.
        """
        message = decode(payload, kind)
        # Over the payload and not over the message: a field that is not known here is sealed all the same.
        if self._claims(message.seal) != (_tag(kind), _body(payload)):
            raise ApprovalRefused("the seal is of another message")
        return message

    def _claims(self, seal: str) -> tuple[str, str]:
        try:
            header = jwt.get_unverified_header(seal)
            key = self._keys.get(str(header.get("kid", "")))
            if key is None or header.get("typ") != TYPE:
                raise ApprovalRefused("the seal is not of a governance key that is trusted here")
            claims = jwt.decode(seal, key, algorithms=[_ALGORITHM], options={"require": ["sub", "body"]})
        except jwt.PyJWTError:
            raise ApprovalRefused("the seal does not parse, or its signature does not hold") from None
        return claims["sub"], claims["body"]


class Sealer(SealVerifier):
    """Seals with a governance key, and opens what that key sealed, or an earlier one."""

    def __init__(self, key: Ed25519PrivateKey, earlier: Iterable[TrustedKey] = ()) -> None:
        self._key = key
        self.public = trusted(key.public_key())
        super().__init__([self.public, *earlier])

    def seal(self, message: S) -> S:
        """The message with its seal."""
        claims = {"sub": _tag(type(message)), "body": _body(encode(message))}
        headers: dict[str, Any] = {"kid": self.public.key_id, "typ": TYPE}
        token = jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers=headers)
        return msgspec.structs.replace(message, seal=token)


def _tag(kind: type[Ruling | Case | ClaimBatch | AuditRecord]) -> str:
    return str(kind.__struct_config__.tag)


def _body(payload: bytes) -> str:
    fields = msgspec.json.decode(payload)
    fields.pop("seal", None)
    return "sha256:" + sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()
