"""Seals: governance's signature over a message of its own that others, or its own workers, read later.

A seal is a JWT (EdDSA) over the hash of the message's JSON with sorted keys, without the seal. What stands
in a stream is believed because of it: neither the broker nor whoever may publish there need be trusted.
"""

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.contract.digest import sha256_digest
from mcp_federation.contract.messages import AuditRecord, Case, ClaimBatch, Ruling, decode, encode
from mcp_federation.errors import ApprovalRefused
from mcp_federation.trust.keys import TrustedKey
from mcp_federation.trust.signing import Distrusted, Keyring, Signer

TYPE: Final = "mcpfed-seal+jwt"

S = TypeVar("S", Ruling, Case, ClaimBatch, AuditRecord)


class _Claims(msgspec.Struct, frozen=True):
    """The claims of a seal: which kind of message it is on, and the hash of that."""

    sub: str
    body: str


class SealVerifier:
    """Checks seals against the governance keys that its owner trusts."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        self._seals = Keyring(keys, TYPE, _Claims)

    def open(self, payload: bytes, kind: type[S]) -> S:
        """The message in a payload, which a trusted key sealed just so.

        Raises:
            InvalidRequest: the payload is no such message.
            ApprovalRefused: its seal does not hold.
        """
        message = decode(payload, kind)
        try:
            claims, _ = self._seals.open(message.seal)
        except Distrusted as error:
            raise ApprovalRefused(f"the seal {error}") from None
        # Over the payload and not over the message: a field that is not known here is sealed all the same.
        if claims != _Claims(_tag(kind), _body(payload)):
            raise ApprovalRefused("the seal is of another message")
        return message


class Sealer(SealVerifier):
    """Seals with a governance key, and opens what that key sealed, or an earlier one."""

    def __init__(self, key: Ed25519PrivateKey, earlier: Iterable[TrustedKey] = ()) -> None:
        self._signer = Signer(key, TYPE)
        self.public = self._signer.public
        super().__init__([self.public, *earlier])

    def seal(self, message: S) -> S:
        """The message with its seal."""
        claims = _Claims(_tag(type(message)), _body(encode(message)))
        token = self._signer.sign(msgspec.structs.asdict(claims))
        return msgspec.structs.replace(message, seal=token)


def _tag(kind: type[Ruling | Case | ClaimBatch | AuditRecord]) -> str:
    return str(kind.__struct_config__.tag)


def _body(payload: bytes) -> str:
    fields = msgspec.json.decode(payload)
    fields.pop("seal", None)
    return sha256_digest(msgspec.json.encode(fields, order="sorted"))
