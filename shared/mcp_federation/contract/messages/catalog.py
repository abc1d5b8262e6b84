"""The published tools."""

from typing import Final

import msgspec
from msgspec import Raw, Struct, field

from mcp_federation.contract.messages.codec import Message, decode_by
from mcp_federation.contract.messages.fields import Digest, LocalName, MaybeRaw, NodeName, Text, Version


class Tool(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """All that a model or a caller can see of a tool; what the digest covers.

    The fields are MCP's own, in alphabetical order: encoded, a tool with canonical schemas is itself
    canonical JSON. As canonical JSON sorts keys, `parameters` keeps the input properties in the order
    that the server gave them, in which positional arguments are mapped.
    """

    annotations: MaybeRaw = None
    description: Text = ""
    input_schema: Raw = field(default_factory=lambda: Raw(b"{}"))  # a factory: MCP never omits it
    name: LocalName
    output_schema: MaybeRaw = None
    parameters: tuple[str, ...] = ()
    title: Text | None = None
    version: Version = "0.0.0"


class CatalogEntry(Message, frozen=True, kw_only=True, tag="catalog_entry"):
    """A published tool. Without `execute_subject` it is described only.

    `assessment` is the verdict's, byte by byte: the approval covers its hash.
    """

    node: NodeName
    tool: Tool
    digest: Digest
    approval: str
    assessment: MaybeRaw = None
    execute_subject: str | None = None
    server: Text = ""
    source_repo: Text | None = None


SERVER_DOWN: Final = "its MCP server is down"
"""The reason of a withdrawal that says nothing of the tool, nor of the node's other replicas."""


class Withdrawal(Message, frozen=True, kw_only=True, tag="withdrawal"):
    """The tool is no longer published; stands in the catalog in the entry's place."""

    node: NodeName
    name: LocalName
    reason: Text = ""


CatalogMessage = CatalogEntry | Withdrawal

_decoder: msgspec.json.Decoder[CatalogMessage] = msgspec.json.Decoder(CatalogMessage)


def decode_catalog(payload: bytes) -> CatalogMessage:
    """What stands in the catalog on a tool.

    Raises:
        InvalidRequest: the payload is neither an entry nor a withdrawal.
    """
    return decode_by(_decoder, payload)
