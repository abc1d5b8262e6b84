"""Takes in what `POST /register` brings: a described tool, or an MCP server that the node then reaches.

What was accepted is kept in a stream, so that every replica of the node, and the node after a restart,
has it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from mcp_federation.bus.protocol import Bus, Delivery, Follower, Reply, Stored, Subscription
from mcp_federation.contract.digest import canonical_tool, tool_digest
from mcp_federation.contract.messages import (
    Decision,
    Submission,
    SubmissionAnswer,
    Tool,
    Verdict,
    decode,
    encode,
)
from mcp_federation.contract.names import check_local_name
from mcp_federation.contract.subjects import SUBMISSION, SUBMISSION_STREAM, SUBMIT, node_queue
from mcp_federation.errors import Conflict, InvalidRequest, RegistrationRefused, ServerUnavailable
from mcp_federation.logs import get_logger
from mcp_federation.node.publication.registrar import Registrar
from mcp_federation.node.servers.config import HttpSpec
from mcp_federation.node.servers.server import SupervisedServer
from mcp_federation.node.tools import LocalTool

log = get_logger("node")

REACH_TIMEOUT = 10.0
DECIDE_TIMEOUT = 15.0
REPLAY_TIMEOUT = 30.0

_APPROVED: Final[frozenset[Decision]] = frozenset({"approved"})
_HOPEFUL: Final[frozenset[Decision]] = _APPROVED | {"quarantined"}
"""What is kept: a quarantined tool is published as soon as a person approves it."""

MakeServer = Callable[[str, HttpSpec], SupervisedServer]


class Submissions:
    """Answers submissions to one node and adopts those that were accepted.

    `make_server` gives a supervised server that is not started; `servers` are the node's own.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        registrar: Registrar,
        servers: dict[str, SupervisedServer],
        make_server: MakeServer,
    ) -> None:
        self._bus = bus
        self._node = node
        self._registrar = registrar
        self._servers = servers
        self._make_server = make_server
        self._configured = frozenset(servers)
        self._adopted: dict[str, Submission] = {}
        self._changed = asyncio.Event()
        self._follower: Follower | None = None
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Adopt what was accepted before, then take submissions."""
        subject = SUBMISSION.every(self._node)
        self._follower = await self._bus.follow(
            SUBMISSION_STREAM, self._on_stored, subject=subject, on_anew=self._on_anew
        )
        await self._follower.caught_up(REPLAY_TIMEOUT)
        self._subscription = await self._bus.respond(
            SUBMIT.of(self._node), self._respond, queue=node_queue(self._node), limit=16
        )

    async def stop(self) -> None:
        """Take no more."""
        for subscription in (self._subscription, self._follower):
            if subscription is not None:
                await subscription.close()

    async def _respond(self, delivery: Delivery) -> Reply:
        submission = decode(delivery.payload, Submission)
        check_local_name(submission.name)
        if "@" in submission.name:
            # Beside real ones it would read like another node's tool.
            raise InvalidRequest("a tool or server that is registered here cannot have an '@' in its name")
        url = submission.server_url
        if url is not None and not url.startswith(("http://", "https://")):
            raise InvalidRequest("the server's URL must begin with http:// or https://")
        if submission.name in self._configured:
            raise Conflict(f"the node already has a server called {submission.name!r}")
        self._check_free(submission, submission.name)
        described = to_described_tool(submission)
        verdict = await self._registrar.ask(described)
        _demand([verdict], _HOPEFUL if url is None else _APPROVED)
        if url is None:
            names, verdicts = [submission.name], [verdict]
        else:
            names, verdicts = await self._probe(submission, url)
        await self._store(submission)
        await self._wait_published(submission, names)
        published = tuple(name for name in names if self._registrar.get(name))
        return Reply(encode(SubmissionAnswer(published=published, verdicts=tuple(verdicts))))

    def _check_free(self, submission: Submission, name: str) -> None:
        """Refuse a tool name that something else on this node has."""
        holder = self._registrar.holder(name)
        replaced = name == submission.name and name in self._adopted
        if holder is not None and holder != submission.name and not replaced:
            raise Conflict(f"the node already has {name!r} from elsewhere")

    async def _probe(self, submission: Submission, url: str) -> tuple[list[str], list[Verdict]]:
        """The local names of a server's tools that governance lets be, and all verdicts on them."""
        server = self._make_server(submission.name, HttpSpec(url))
        server.start()
        try:
            async with asyncio.timeout(REACH_TIMEOUT):
                await server.settled()
            if server.state.state != "ready":
                raise ServerUnavailable(f"the MCP server cannot be used: {server.state.reason}")
            tools = list(server.tools)
        except TimeoutError:
            raise ServerUnavailable(f"the MCP server did not answer within {REACH_TIMEOUT:g} s") from None
        finally:
            await server.stop()
        if not tools:
            raise InvalidRequest("the MCP server lists no tool that can be published")
        for tool in tools:
            self._check_free(submission, tool.tool.name)
        verdicts = [await self._registrar.ask(tool) for tool in tools]
        if not any(verdict.decision in _HOPEFUL for verdict in verdicts):
            _demand(verdicts, _HOPEFUL)
        return [verdict.name for verdict in verdicts if verdict.decision in _HOPEFUL], verdicts

    async def _wait_published(self, submission: Submission, names: list[str]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DECIDE_TIMEOUT):
                while self._adopted.get(submission.name) != submission:
                    await self._changed.wait()
        await self._registrar.wait_decided(names, DECIDE_TIMEOUT)

    async def _store(self, submission: Submission, expect: int | None = None) -> None:
        subject = SUBMISSION.of(self._node, submission.name)
        await self._bus.store(subject, encode(submission), expect=expect)

    async def _on_anew(self) -> None:
        """Keep again what was accepted, and was lost with the stream."""
        for submission in list(self._adopted.values()):
            with suppress(Conflict):  # a replica was first, or there is a later one already
                await self._store(submission, expect=0)

    async def _on_stored(self, stored: Stored) -> None:
        submission = decode(stored.payload, Submission)
        if submission.name in self._configured:
            log.warn("submission_ignored", name=submission.name, reason="a configured server has that name")
            return
        await self._release(submission.name)
        if submission.server_url is None:
            self._registrar.set_tools(_key(submission.name), [to_described_tool(submission)])
        else:
            server = self._make_server(submission.name, HttpSpec(submission.server_url))
            self._servers[submission.name] = server
            server.start()
        self._adopted[submission.name] = submission
        self._changed.set()
        self._changed = asyncio.Event()
        log.info("submission_adopted", name=submission.name, server_url=submission.server_url)

    async def _release(self, name: str) -> None:
        """Let go of what an earlier submission of that name brought."""
        if self._adopted.pop(name, None) is None:
            return
        server = self._servers.get(name)
        if server is not None:
            # While it is still listed: should we be stopped meanwhile, the node stops it.
            await server.stop()
            del self._servers[name]
        self._registrar.remove_server(name)
        self._registrar.remove_server(_key(name))


def to_described_tool(submission: Submission) -> LocalTool:
    """The tool that a submission describes; nothing runs it.

    Raises:
        InvalidRequest: its input schema is no JSON object.
    """
    schema = submission.input_schema
    if schema is None or bytes(schema).strip() == b"null":
        schema = msgspec.Raw(b'{"type":"object"}')
    try:
        parsed = msgspec.json.decode(schema)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest("the input schema is no JSON, or nests too deeply") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("the input schema must be a JSON object")
    properties = parsed.get("properties")
    tool = canonical_tool(
        Tool(
            name=submission.name,
            description=submission.description,
            version=submission.version,
            input_schema=schema,
            parameters=tuple(properties) if isinstance(properties, dict) else (),
        )
    )
    return LocalTool(
        tool=tool,
        digest=tool_digest(tool),
        server=submission.name if submission.server_url else "",
        remote_name=submission.name,
        executable=False,
        source_repo=submission.source_repo,
        server_url=submission.server_url,
    )


def _key(name: str) -> str:
    """Under which a described tool is held among the servers: no server can have that name."""
    return f"\0{name}"


def _demand(verdicts: list[Verdict], decisions: frozenset[Decision]) -> None:
    """Raise `RegistrationRefused` where a verdict is none of those."""
    refused = [verdict for verdict in verdicts if verdict.decision not in decisions]
    if not refused:
        return
    findings = [msgspec.to_builtins(finding) for verdict in refused for finding in verdict.findings]
    decision = refused[0].decision
    if decision == "quarantined":
        raise RegistrationRefused(
            f"governance quarantined {refused[0].name!r}: once a person approved it, register it again",
            {"decision": decision, "findings": findings},
        )
    raise RegistrationRefused(
        f"governance {decision} {refused[0].name!r}", {"decision": decision, "findings": findings}
    )
