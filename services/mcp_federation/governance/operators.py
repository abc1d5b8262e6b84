"""The other side of the review desk: reads the cases of governance, and gives it orders."""

from collections.abc import Iterable
from secrets import token_hex
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcp_federation.bus.protocol import Bus, Stored, StoredHandler
from mcp_federation.contract.messages import (
    Case,
    ReviewCommand,
    Ruling,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.names import federated_name, split_federated_name
from mcp_federation.contract.subjects import CASE, CASE_STREAM, REVIEW, Header, StreamSpec
from mcp_federation.errors import (
    BusUnavailable,
    Conflict,
    DeadlineExceeded,
    NodeUnavailable,
    ToolNotFound,
)
from mcp_federation.logs import get_logger
from mcp_federation.trust.keys import TrustedKey
from mcp_federation.trust.orders import Act, sign_order
from mcp_federation.trust.seals import SealVerifier

log = get_logger("governance")

REPLAY_TIMEOUT: Final = 30.0
ORDER_TIMEOUT: Final = 3.0
TRIES: Final = 3


class Operator:
    """Somebody who reads what governance knows of each tool and, with a key, decides."""

    def __init__(self, bus: Bus, trusted_keys: Iterable[TrustedKey]) -> None:
        self._bus = bus
        self._seals = SealVerifier(trusted_keys)

    async def cases(self) -> list[Case]:
        """All cases, by federated name; one whose seal does not hold is left out, and logged.

        Raises:
            BusUnavailable: governance never ran here.
            DeadlineExceeded: the stream does not answer.
        """
        found: dict[str, Case] = {}

        async def take(stored: Stored) -> None:
            case = self._open(stored)
            found[federated_name(case.name, case.node)] = case

        await replay(self._bus, CASE_STREAM, take, REPLAY_TIMEOUT)
        return [case for _, case in sorted(found.items())]

    async def case(self, name: str) -> Case:
        """The case of a tool; a plain name will do where only one node has such a tool.

        Raises:
            ToolNotFound: governance knows no such tool.
            Conflict: several nodes have a tool of that name.
        """
        local, node = split_federated_name(name)
        if node is not None:
            stored = await self._bus.last(CASE_STREAM, CASE.of(node, local))
            if stored is not None:
                return self._open(stored)
        named = [case for case in await self.cases() if case.name == name]
        if not named:
            raise ToolNotFound(f"governance knows no tool {name!r}")
        if len(named) > 1:
            nodes = ", ".join(federated_name(case.name, case.node) for case in named)
            raise Conflict(f"several nodes have a tool of that name: {nodes}")
        return named[0]

    async def order(self, key: Ed25519PrivateKey, act: Act, case: Case, *, by: str, reason: str) -> Ruling:
        """Have governance rule on a case as it was read.

        Raises:
            Unauthorized: governance does not know the key as an operator's.
            Conflict: the tool is not, or no longer, as the case says.
            NodeUnavailable: no governance worker runs.
        """
        digest = case.approved_digest if act == "revoke" else None
        order = sign_order(
            key,
            act,
            case.node,
            case.name,
            digest or case.verdict.digest,
            by=by,
            reason=reason,
            after=case.ruling.id if case.ruling else "",
            order_id=token_hex(16),
        )
        # The same order again, where a worker died over it: it is carried out once.
        payload = encode(ReviewCommand(order=order))
        subject = REVIEW.of(case.node, case.name)
        for attempt in range(TRIES):
            try:
                reply = await self._bus.request(subject, payload, timeout=ORDER_TIMEOUT)
                break
            except NodeUnavailable:
                raise NodeUnavailable("no governance worker answers") from None
            except DeadlineExceeded:
                if attempt == TRIES - 1:
                    raise
        if Header.ERROR_CODE in reply.headers:
            raise_error_reply(reply.payload)
        return decode(reply.payload, Ruling)

    def _open(self, stored: Stored) -> Case:
        case = self._seals.open(stored.payload, Case)
        CASE.check(stored.subject, case.node, case.name)
        return case


async def replay(bus: Bus, stream: StreamSpec, take: StoredHandler, timeout: float) -> None:
    """Have `take` handle what governance keeps in a stream now, in order.

    Raises:
        BusUnavailable: the stream is not there; it is not waited for.
        DeadlineExceeded: it was not read within `timeout` seconds.
    """
    try:
        await bus.last(stream, stream.template.of("none", "none"))
    except BusUnavailable:
        raise BusUnavailable(
            f"the NATS server has no stream {stream.name}, or keeps it from us: "
            "no governance has run with it, or the user in the URL may not read it"
        ) from None
    follower = await bus.follow(stream, take)
    try:
        await follower.caught_up(timeout)
    finally:
        await follower.close()


def is_pending(case: Case) -> bool:
    """Whether it waits for a person."""
    ruling = case.ruling
    ruled = ruling is not None and ruling.digest == case.verdict.digest
    return case.verdict.decision == "quarantined" and not ruled


def standing(case: Case) -> str:
    """How the tool stands: governance's decision, or what a person said of this text since."""
    ruling = case.ruling
    if ruling is not None and ruling.digest == case.verdict.digest and ruling.at >= case.at:
        return ruling.decision
    return case.verdict.decision
