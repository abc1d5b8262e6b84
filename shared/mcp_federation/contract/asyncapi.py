"""The contract as an AsyncAPI 3.0 document, made from the messages and subjects themselves. Pure.

It is all that a program in any language needs to follow the catalog and to call a tool.
"""

from inspect import cleandoc
from typing import Any

import msgspec

from mcp_federation.contract import subjects
from mcp_federation.contract.channels import CHANNELS, DESCRIPTION, HEADERS, PARAMETERS, SUMMARIES, Channel
from mcp_federation.contract.mcp import CallParams, CallResult
from mcp_federation.contract.messages import (
    MESSAGES,
    PROTOCOL_VERSION,
    Blob,
    ErrorReply,
    Progress,
    Running,
)
from mcp_federation.contract.subjects import Header, StreamSpec

Document = dict[str, Any]


def document() -> Document:
    """The AsyncAPI 3.0 document as JSON-ready data."""
    kinds: tuple[type, ...] = (*MESSAGES, CallParams, CallResult)
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "MCP Federation on NATS",
            "version": f"{PROTOCOL_VERSION}.0.0",
            "description": DESCRIPTION.strip(),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "Any NATS server of the mesh, with JetStream.",
            }
        },
        "channels": {channel.template.kind: _channel(channel) for channel in CHANNELS}
        | {
            f"{channel.template.kind}Reply": _reply_channel(channel)
            for channel in CHANNELS
            if channel.replies
        },
        "operations": {_operation_name(channel): _operation(channel) for channel in CHANNELS},
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in kinds},
            "schemas": {name: _readable(schema) for name, schema in schemas.items()},
            "parameters": PARAMETERS,
        },
    }


def _channel(channel: Channel) -> Document:
    template = channel.template
    stream = next((spec for spec in subjects.STREAMS if spec.template == template), None)
    spoken: Document = {
        "address": template.address,
        "title": channel.summary,
        "description": channel.description,
        "messages": {kind.__name__: _ref("messages", kind.__name__) for kind in channel.messages},
        "parameters": {"node": _ref("parameters", "node")},
        "x-pattern": "stream" if stream else "request-reply" if channel.replies else "event",
        "x-wildcard": template.every(),
    }
    if template.has_tool:
        spoken["parameters"]["tool"] = _ref("parameters", "tool")
    if stream:
        spoken["x-stream"] = _stream(stream)
    return spoken


def _stream(spec: StreamSpec) -> Document:
    return {
        "name": spec.name,
        "keeps": "the last message of each subject" if spec.last_per_subject else "every message",
        "max_age_seconds": int(spec.max_age.total_seconds()) if spec.max_age else None,
        "max_bytes": spec.max_bytes,
    }


def _reply_channel(channel: Channel) -> Document:
    return {
        "address": None,
        "title": f"Answers: {channel.summary}",
        "description": "The reply subject of the NATS request, which every NATS client makes by itself.",
        "messages": {kind.__name__: _ref("messages", kind.__name__) for kind in channel.replies},
    }


def _operation_name(channel: Channel) -> str:
    return f"{'send' if channel.sends else 'receive'}{channel.template.kind.capitalize()}"


def _operation(channel: Channel) -> Document:
    kind = channel.template.kind
    operation: Document = {
        "action": "send" if channel.sends else "receive",
        "channel": {"$ref": f"#/channels/{kind}"},
        "summary": channel.summary,
        "messages": _channel_messages(kind, channel.messages),
    }
    if channel.queue:
        operation["x-queue-group"] = channel.queue
    if channel.replies:
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{kind}Reply"},
            "messages": _channel_messages(f"{kind}Reply", channel.replies),
        }
    return operation


def _channel_messages(channel: str, kinds: tuple[type, ...]) -> list[Document]:
    return [{"$ref": f"#/channels/{channel}/messages/{kind.__name__}"} for kind in kinds]


_REPLY_HEADERS: dict[type, list[str]] = {
    ErrorReply: [Header.ERROR, Header.ERROR_CODE],
    Progress: [Header.INTERIM],
    Running: [Header.INTERIM],
    Blob: [Header.BLOB],
}


def _message(kind: type) -> Document:
    carried = [name for channel in CHANNELS if kind in channel.messages for name in channel.headers]
    carried = _REPLY_HEADERS.get(kind, carried)
    message: Document = {
        "name": kind.__name__,
        "summary": SUMMARIES.get(kind) or cleandoc(kind.__doc__ or "").partition("\n")[0],
        "payload": _ref("schemas", kind.__name__),
    }
    if carried:
        message["headers"] = {"type": "object", "properties": {name: HEADERS[name] for name in carried}}
    if kind in _REPLY_HEADERS:
        message["headers"]["required"] = carried
    return message


def _readable(schema: Document) -> Document:
    plain: Document = msgspec.json.decode(msgspec.json.encode(schema))  # defaults come as tuples
    if "description" in plain:
        plain["description"] = cleandoc(plain["description"])
    return plain


def _ref(section: str, name: str) -> Document:
    return {"$ref": f"#/components/{section}/{name}"}
