"""What governance says of the node's tools: asked for, kept, and asked for anew once a person has ruled."""

import asyncio
from collections.abc import Callable
from secrets import token_hex

from tenacity import retry, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from mcp_federation.bus.protocol import Bus, Delivery, Follower, Stored
from mcp_federation.contract.messages import (
    Registration,
    Ruling,
    Verdict,
    decode,
    encode,
    raise_error_reply,
)
from mcp_federation.contract.subjects import REGISTER, RULING, RULING_STREAM, Header
from mcp_federation.errors import DeadlineExceeded, FederationError, InvalidRequest, NodeUnavailable
from mcp_federation.node.publication.decisions import Decision, decision, refusal
from mcp_federation.node.tools import LocalTool

REGISTER_TIMEOUT = 2.5
REGISTER_TRIES = 3


class Judgements:
    """One node's decisions by tool. `on_ruling` is called when a person's ruling makes one of them void."""

    def __init__(self, bus: Bus, node: str, instance: str, on_ruling: Callable[[], None]) -> None:
        self._bus = bus
        self._node = node
        self._instance = instance
        self._on_ruling = on_ruling
        self._decided: dict[str, Decision] = {}
        self._ruled: dict[str, str] = {}
        self._rulings: Follower | None = None

    async def start(self) -> None:
        """Hear of rulings."""
        self._rulings = await self._bus.follow(
            RULING_STREAM, self._on_stored, subject=RULING.every(self._node)
        )

    async def stop(self) -> None:
        """Hear of them no longer."""
        if self._rulings is not None:
            await self._rulings.close()

    async def ask(self, tool: LocalTool) -> Verdict:
        """Governance's verdict on a tool; kept, so that publishing it does not ask again.

        Raises:
            FederationError: governance does not answer, or answers with an error.
        """
        registration = Registration(
            node=self._node,
            tool=tool.tool,
            digest=tool.digest,
            server=tool.server,
            executable=tool.executable,
            source_repo=tool.source_repo,
            server_url=tool.server_url,
            instance=self._instance,
        )
        name = tool.tool.name
        while True:
            ruled = self._ruled.get(name)
            reply = await self._request(encode(registration), token_hex(16))
            if Header.ERROR_CODE in reply.headers:
                raise_error_reply(reply.payload)
            verdict = decode(reply.payload, Verdict)
            if (verdict.name, verdict.digest) != (name, tool.digest):
                raise InvalidRequest("the verdict is of another tool")
            if self._ruled.get(name) == ruled:  # else a person ruled after this was decided, perhaps
                self._keep(verdict)
                return verdict

    def of(self, tool: LocalTool) -> Decision | None:
        """What was decided on the tool as it is now."""
        decided = self._decided.get(tool.tool.name)
        return decided if decided is not None and decided.verdict.digest == tool.digest else None

    def standing(self, tool: LocalTool) -> Decision | None:
        """The same, where it need not be asked for anew yet."""
        decided = self.of(tool)
        now = asyncio.get_running_loop().time()
        return decided if decided is not None and now < decided.renew_at else None

    def refuse(self, tool: LocalTool, error: FederationError) -> None:
        """Take a tool that governance cannot even judge for refused."""
        self._keep(refusal(self._node, tool, error))

    def forget(self, name: str) -> None:
        """The tool is gone."""
        self._decided.pop(name, None)

    @retry(
        retry=retry_if_exception_type((NodeUnavailable, DeadlineExceeded)),
        stop=stop_after_attempt(REGISTER_TRIES),
        wait=wait_random_exponential(multiplier=0.2, max=1),
        reraise=True,
    )
    async def _request(self, registration: bytes, request_id: str) -> Delivery:
        """Ask, and ask again where a worker died over it: by the id, the verdict is given once."""
        return await self._bus.request(
            REGISTER.of(self._node),
            registration,
            timeout=REGISTER_TIMEOUT,
            headers={Header.REQUEST_ID: request_id},
        )

    async def _on_stored(self, stored: Stored) -> None:
        """Have a tool asked about anew that a person ruled on; governance itself says what it was."""
        ruling = decode(stored.payload, Ruling)
        if self._ruled.get(ruling.name) != ruling.id:
            self._ruled[ruling.name] = ruling.id
            self.forget(ruling.name)
            self._on_ruling()

    def _keep(self, verdict: Verdict) -> None:
        self._decided[verdict.name] = decision(verdict, asyncio.get_running_loop().time())
