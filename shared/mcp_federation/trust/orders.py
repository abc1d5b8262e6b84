"""Orders: what an operator of governance tells it to do with one tool, signed by the operator's key.

An order is a JWT (EdDSA) that names the tool, the digest that the operator saw, and the ruling that it
follows: so it can be neither turned to another text nor sent a second time.
"""

import time
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from mcp_federation.contract.messages import Digest
from mcp_federation.contract.names import federated_name
from mcp_federation.errors import Unauthorized
from mcp_federation.trust.keys import TrustedKey
from mcp_federation.trust.signing import Distrusted, Expired, Keyring, Signer, UnknownKey, check_times

TYPE: Final = "mcpfed-order+jwt"
LIFE_SECONDS: Final = 60

Act = Literal["approve", "reject", "revoke"]


class Order(Struct, frozen=True, kw_only=True):
    """What to do with which text of a tool, as a JWT claims it.

    `sub` is the tool's federated name, `after` the id of its last ruling, if any, and `jti` the order's own.
    It was given at `iat` and holds until `exp`, in Unix seconds.
    """

    act: Act
    sub: str
    digest: Digest
    by: str
    reason: str = ""
    after: str = ""
    jti: str
    iat: float
    exp: float


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
    now = int(time.time())
    order = Order(
        act=act,
        sub=federated_name(name, node),
        digest=digest,
        by=by,
        reason=reason,
        after=after,
        jti=order_id,
        iat=now,
        exp=now + LIFE_SECONDS,
    )
    return Signer(key, TYPE).sign(msgspec.structs.asdict(order))


class OrderVerifier:
    """Checks orders against the keys of those who may give them."""

    def __init__(self, operators: Iterable[TrustedKey]) -> None:
        self._orders = Keyring(operators, TYPE, Order)

    def open(self, order: str, node: str, name: str) -> tuple[Order, str]:
        """The order on that tool, and the id of the key that signed it.

        Raises:
            Unauthorized: no operator gave it, it is on another tool, or its time is over.
        """
        try:
            opened, key = self._orders.open(order)
            check_times(opened.iat, opened.exp)
        except UnknownKey:
            raise Unauthorized(
                "the order is not signed by a key that governance knows as an operator's"
            ) from None
        except Expired:
            raise Unauthorized("the order is too old; give it again") from None
        except Distrusted as error:
            raise Unauthorized(f"the order {error}") from None
        if opened.sub != federated_name(name, node):
            raise Unauthorized("the order is on another tool")
        return opened, key.key_id
