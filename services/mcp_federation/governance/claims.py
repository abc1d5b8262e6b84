"""Claims: what is about to be approved, in the one order in which all workers read it.

Two workers that judge two look-alikes at once both find neither of them published. So each writes a claim
before it approves, into a stream that all follow, and heeds those that stand before its own: of two, just
the second sees the other.
"""

import asyncio
from secrets import token_hex
from typing import Final

from mcp_federation.bus.handling import stop_task
from mcp_federation.bus.protocol import Bus, Follower, Stored
from mcp_federation.contract.messages import Claim, ClaimBatch, Finding, Registration, encode
from mcp_federation.contract.subjects import CLAIM, CLAIM_STREAM
from mcp_federation.errors import BusUnavailable, FederationError
from mcp_federation.governance.checks.context import CatalogView, Key, Published
from mcp_federation.governance.checks.reading import Reading, read
from mcp_federation.governance.security import COLLISIONS
from mcp_federation.logs import get_logger
from mcp_federation.trust.seals import Sealer

log = get_logger("governance")

BATCH_CHARS: Final = 64 * 1024
"""From so many characters on no further claim goes in the same message."""

PAUSE: Final = 0.005
"""Seconds between two messages of claims: in a bulk, each costs every worker a signature to check."""

READ_TIMEOUT: Final = 2.0
"""Seconds in which a claim comes back; the node asks again soon after."""

LIFE: Final = 120.0
"""Seconds that a claim counts: from the check to where the catalog tells of the tool takes less."""


class Claims:
    """Makes claims, and keeps those of all workers for as long as they count."""

    def __init__(self, bus: Bus, sealer: Sealer) -> None:
        self._bus = bus
        self._sealer = sealer
        self._view = CatalogView()
        self._lapses: dict[Key, asyncio.TimerHandle] = {}
        self._waiting: dict[str, tuple[Reading, asyncio.Future[list[Finding]]]] = {}
        self._unsent: asyncio.Queue[Claim] = asyncio.Queue()
        self._subject = CLAIM.of(token_hex(8))
        self._sender: asyncio.Task[None] | None = None
        self._follower: Follower | None = None

    async def start(self, timeout: float) -> None:
        """Have read the claims that count now.

        Raises:
            DeadlineExceeded: that took longer than `timeout` seconds.
        """
        self._follower = await self._bus.follow(CLAIM_STREAM, self._on_stored)
        await self._follower.caught_up(timeout)
        self._sender = asyncio.get_running_loop().create_task(self._send())

    async def stop(self) -> None:
        """Make none any longer, and follow them no longer."""
        await stop_task(self._sender)
        if self._follower is not None:
            await self._follower.close()
        for lapse in self._lapses.values():
            lapse.cancel()

    async def claim(self, registration: Registration) -> list[Finding]:
        """Claim the names of a tool; how they collide with those that were claimed before.

        Raises:
            BusUnavailable: the claim could not be made, or did not come back in time.
        """
        tool = registration.tool
        claim = Claim(
            id=token_hex(16),
            node=registration.node,
            name=tool.name,
            server=registration.server,
            description=tool.description,
        )
        answer: asyncio.Future[list[Finding]] = asyncio.get_running_loop().create_future()
        self._waiting[claim.id] = read(registration, self._view), answer
        self._unsent.put_nowait(claim)
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                return await answer
        except TimeoutError:
            raise BusUnavailable("the tool's names cannot be claimed; register again later") from None
        finally:
            del self._waiting[claim.id]

    async def _send(self) -> None:
        """Write the claims; those that come soon after others go together."""
        while True:
            claims = [await self._unsent.get()]
            chars = len(claims[0].description)
            while not self._unsent.empty() and chars < BATCH_CHARS:
                claims.append(self._unsent.get_nowait())
                chars += len(claims[-1].description)
            try:
                batch = self._sealer.seal(ClaimBatch(claims=tuple(claims)))
                await self._bus.store(self._subject, encode(batch))
            except FederationError as error:
                log.error("claims_not_made", claims=len(claims), reason=error.message)
            await asyncio.sleep(PAUSE)

    async def _on_stored(self, stored: Stored) -> None:
        for claim in self._sealer.open(stored.payload, ClaimBatch).claims:
            self._take(claim)

    def _take(self, claim: Claim) -> None:
        if waiting := self._waiting.get(claim.id):
            reading, answer = waiting
            if not answer.done():
                answer.set_result(COLLISIONS.run(reading))  # now: just what stands before it is in the view
        self._view.put(
            Published(node=claim.node, name=claim.name, server=claim.server, description=claim.description)
        )
        key = (claim.node, claim.name)
        if (earlier := self._lapses.get(key)) is not None:
            earlier.cancel()
        self._lapses[key] = asyncio.get_running_loop().call_later(LIFE, self._lapse, key)

    def _lapse(self, key: Key) -> None:
        del self._lapses[key]
        self._view.drop(*key)
