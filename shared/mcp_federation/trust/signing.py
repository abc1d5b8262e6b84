"""Signed tokens: JWTs (EdDSA) of one kind each, which their `typ` says, and of keys that one trusts.

They are signed by PyJWT, and checked here: a replica checks thousands at its start, so what their headers
have in common is read once, and the rest with msgspec.
"""

import base64
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import jwt
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.trust.keys import TrustedKey, trusted

LEEWAY_SECONDS: Final = 30
"""By how much the clocks of organisations may differ."""

MAX_HEADERS: Final = 64
"""How many different headers are remembered with the key that they name."""

_ALGORITHM: Final = "EdDSA"

C = TypeVar("C")


class Distrusted(Exception):
    """A token is not believed; the message says what it is or has, as in “is of another kind”."""


class UnknownKey(Distrusted):
    """No key that is trusted signed it."""


class Expired(Distrusted):
    """Its time is over."""


class Signer:
    """Signs tokens of one kind; `public` is what they are checked with."""

    def __init__(self, key: Ed25519PrivateKey, kind: str) -> None:
        self.public = trusted(key.public_key())
        self._key = key
        self._headers = {"kid": self.public.key_id, "typ": kind}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The token of those claims."""
        return jwt.encode(dict(claims), self._key, algorithm=_ALGORITHM, headers=self._headers)


class Keyring(Generic[C]):
    """Opens tokens of one kind that one of these keys signed, and reads their claims as that type."""

    def __init__(self, keys: Iterable[TrustedKey], kind: str, claims: type[C]) -> None:
        self._keys = {key.key_id: key for key in keys}
        self._kind = kind
        self._decoder = msgspec.json.Decoder(claims)
        self._headers: dict[str, TrustedKey] = {}

    def open(self, token: str) -> tuple[C, TrustedKey]:
        """The claims, and the key that signed them.

        Raises:
            Distrusted: it does not parse, its signature does not hold, or it is of another kind.
            UnknownKey: none of these keys signed it.
        """
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        key = self._headers.get(header) or self._key_of(header)
        try:
            key.public.verify(_unpacked(signature), signed.encode())
            return self._decoder.decode(_unpacked(payload)), key
        except (InvalidSignature, ValueError):
            raise Distrusted("does not parse, or its signature does not hold") from None

    def _key_of(self, packed: str) -> TrustedKey:
        """The key that a header names; few headers occur."""
        try:
            header = _header_decoder.decode(_unpacked(packed))
        except ValueError:
            raise Distrusted("does not parse, or its signature does not hold") from None
        key = self._keys.get(header.kid)
        if key is None:
            raise UnknownKey("is signed by a key that is not trusted here")
        if header.typ != self._kind or header.alg != _ALGORITHM or header.crit is not None:
            raise Distrusted("is of another kind")
        if len(self._headers) < MAX_HEADERS:
            self._headers[packed] = key
        return key


def check_times(since: float, until: float) -> None:
    """Whether a token holds now that does from then until then, in Unix seconds; give or take the leeway.

    Raises:
        Expired: not any more.
        Distrusted: not yet.
    """
    now = time.time()
    if until <= now - LEEWAY_SECONDS:
        raise Expired("has expired")
    if since > now + LEEWAY_SECONDS:
        raise Distrusted("does not hold yet")


class _Header(msgspec.Struct):
    """What is read of a JWT's header (RFC 7515). Extensions that must be understood, `crit`, are not."""

    alg: str = ""
    kid: str = ""
    typ: str = ""
    crit: Any = None


_header_decoder = msgspec.json.Decoder(_Header)


def _unpacked(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "==")
