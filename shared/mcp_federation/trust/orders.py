"""Orders: what an operator of governance tells it to do with one tool, signed by the operator's key.

An order is a JWT (EdDSA) that names the tool, the digest that the operator saw, and the ruling that it
follows: so it can be neither turned to another text nor sent a second time.
"""

import time
from collections.abc import Iterable
from typing import Any, Final, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from mcp_federation.contract.messages import Digest
from mcp_federation.contract.names import federated_name
from mcp_federation.errors import Unauthorized
from mcp_federation.trust.keys import TrustedKey, trusted

TYPE: Final = "mcpfed-order+jwt"
LIFE_SECONDS: Final = 60
_ALGORITHM = "EdDSA"
_LEEWAY_SECONDS = 30

Act = Literal["approve", "reject", "revoke"]


class Order(Struct, frozen=True, kw_only=True):
    """What to do with which text of a tool. `after` is the id of the tool's last ruling, if any."""

    act: Act
    sub: str
    digest: Digest
    by: str
    reason: str = ""
    after: str = ""
    jti: str


def sign_order(
    key: Ed25519PrivateKey,
    act: Act,
    node: str,
    name: str,
    digest: str,
    *,
    by: str,
    reason: str,
    after: str,
    order_id: str,
) -> str:
    """A signed order, which holds for a minute."""
    order = Order(
        act=act,
        sub=federated_name(name, node),
        digest=digest,
        by=by,
        reason=reason,
        after=after,
        jti=order_id,
    )
    now = int(time.time())
    claims = {**msgspec.to_builtins(order), "iat": now, "exp": now + LIFE_SECONDS}
    headers: dict[str, Any] = {"kid": trusted(key.public_key()).key_id, "typ": TYPE}
    return jwt.encode(claims, key, algorithm=_ALGORITHM, headers=headers)


class OrderVerifier:
    """Checks orders against the keys of those who may give them."""

    def __init__(self, operators: Iterable[TrustedKey]) -> None:
        self._keys = {key.key_id: key.public for key in operators}

    def open(self, order: str, node: str, name: str) -> tuple[Order, str]:
        """The order on that tool, and the id of the key that signed it.

        Raises:
            Unauthorized: no operator gave it, it is on another tool, or its time is over.
        """
        try:
            header = jwt.get_unverified_header(order)
            key_id = str(header.get("kid", ""))
            key = self._keys.get(key_id)
            if key is None or header.get("typ") != TYPE:
                raise Unauthorized("the order is not signed by a key that governance knows as an operator's")
            options: Any = {"require": ["sub", "jti", "iat", "exp"]}
            claims = jwt.decode(order, key, algorithms=[_ALGORITHM], leeway=_LEEWAY_SECONDS, options=options)
            opened = msgspec.convert(claims, Order)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the order is too old; give it again") from None
        except (jwt.PyJWTError, msgspec.ValidationError):
            raise Unauthorized("the order does not parse, or its signature does not hold") from None
        if opened.sub != federated_name(name, node):
            raise Unauthorized("the order is on another tool")
        return opened, key_id
