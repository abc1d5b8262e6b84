"""The digest of a tool: SHA-256 over the RFC 8785 canonical JSON of all that is visible of it. Pure."""

from hashlib import sha256
from typing import Any

import msgspec
import rfc8785

from mcp_federation.contract.messages import Tool
from mcp_federation.errors import InvalidRequest

_MAX_SAFE_INTEGER = 2**53 - 1
_BIG = "\ue000"


def canonical(value: Any) -> bytes:
    """RFC 8785 canonical JSON of a JSON value, in UTF-8.

    Raises:
        InvalidRequest: the value is no JSON, nests too deeply, or has an integer that a double
            cannot hold.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise InvalidRequest("the value has no canonical JSON form") from error


def canonical_tool(tool: Tool) -> Tool:
    """The same tool with its schemas and annotations in canonical form, as they are published.

    Then the bytes of the encoded tool are themselves canonical, and a reader checks a digest without
    parsing a schema.
    """
    return msgspec.structs.replace(
        tool,
        input_schema=_canonical_raw(tool.input_schema),
        output_schema=_canonical_raw(tool.output_schema),
        annotations=_canonical_raw(tool.annotations),
    )


def tool_digest(tool: Tool) -> str:
    """`sha256:<hex>` over everything that a model or a caller can see of the tool.

    Raises:
        InvalidRequest: a schema is no JSON.
    """
    try:
        visible = msgspec.json.decode(msgspec.json.encode(tool))
        return _sha256(rfc8785.dumps(visible))
    except rfc8785.IntegerDomainError:
        # Real schemas hold 64-bit bounds, which RFC 8785 would round to a double: two different texts
        # would share a digest. They are hashed exactly, in a domain of their own.
        return _sha256(b"exact\n" + rfc8785.dumps(_spell_big_integers(visible)))
    except (msgspec.DecodeError, rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise InvalidRequest("the tool has no canonical JSON form") from error


def has_digest(tool: Tool, digest: str) -> bool:
    """Whether `digest` is the tool's; cheap where the tool was published in canonical form."""
    # A match of the bytes as they came proves that these are the canonical ones.
    if _sha256(msgspec.json.encode(tool)) == digest:
        return True
    try:
        return tool_digest(tool) == digest
    except InvalidRequest:
        return False


def _sha256(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()


def _canonical_raw(raw: msgspec.Raw | None) -> msgspec.Raw | None:
    if raw is None:
        return None
    try:
        value = msgspec.json.decode(raw)
        return msgspec.Raw(rfc8785.dumps(value))
    except rfc8785.IntegerDomainError:
        return msgspec.Raw(msgspec.json.encode(value, order="sorted"))
    except (msgspec.DecodeError, rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise InvalidRequest("the tool has no canonical JSON form") from error


def _spell_big_integers(value: Any) -> Any:
    """The value with every integer that a double cannot hold as text that no other text can equal."""
    if isinstance(value, dict):
        return {key: _spell_big_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_big_integers(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_SAFE_INTEGER:
        return f"{_BIG}{value}"
    if isinstance(value, str) and value.startswith(_BIG):
        return _BIG + _BIG + value
    return value
