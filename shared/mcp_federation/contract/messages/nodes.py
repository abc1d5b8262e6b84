"""What a node tells of itself, and what it takes in."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mcp_federation.contract.messages.codec import Message
from mcp_federation.contract.messages.fields import Count, LocalName, MaybeRaw, NodeName, Text, Version
from mcp_federation.contract.messages.governance import Decision, Verdict


class ServerState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one MCP server of a node does; `reason` says why when it is not `ready`."""

    name: str
    state: Literal["starting", "ready", "failed", "stopped"]
    reason: str = ""
    tools: Count = 0
    restarts: Count = 0


class RefusedTool(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool that a node has and governance did not approve."""

    name: str
    decision: Decision
    why: str = ""


class Presence(Message, frozen=True, kw_only=True, tag="presence"):
    """A node's heartbeat.

    `catalog_hash` tells whether a reader missed an entry: the XOR of the SHA-256 over `<local name> NUL
    <digest>` of each tool that the node publishes, in 64 hex digits. `interval` is in seconds: unheard of
    for three of them, the node is unavailable.
    """

    node: NodeName
    instance: str
    status: Literal["up", "leaving"] = "up"
    interval: Annotated[float, Meta(gt=0, le=3600)]
    catalog_hash: str
    tools: Count = 0
    in_flight: Count = 0
    servers: tuple[ServerState, ...] = ()
    refused: tuple[RefusedTool, ...] = ()
    version: str = ""


class Submission(Message, frozen=True, kw_only=True, tag="submission"):
    """A new tool, or a new MCP server, for a node to register; what `POST /register` brings.

    With `server_url` the node reaches that MCP server (streamable HTTP) and registers what it lists.
    """

    name: LocalName
    description: Text
    version: Version = "0.0.0"
    source_repo: Text | None = None
    input_schema: MaybeRaw = None
    server_url: Text | None = None


class SubmissionAnswer(Message, frozen=True, kw_only=True, tag="submission_answer"):
    """What became of a submission: the local names that are now published, or why none is."""

    published: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
