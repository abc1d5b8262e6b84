"""The digest of a tool: SHA-256 over the RFC 8785 canonical JSON of all that is visible of it. Pure."""

from hashlib import sha256
from typing import Any

import msgspec
import rfc8785

from mcp_federation.contract.messages import Tool
from mcp_federation.errors import InvalidRequest

MAX_NESTING = 200
"""How deep a schema may nest. A bound of our own, as Python has another one in each of its versions."""

_MAX_SAFE_INTEGER = 2**53 - 1
_EXPONENT_FROM = 1e21  # below, RFC 8785 writes a whole number without one, however it was written
_BIG = "\ue000"
_NO_JSON = (msgspec.MsgspecError, rfc8785.CanonicalizationError, UnicodeError, RecursionError)
_DEFAULTS: dict[str, Any] = {
    field.encode_name: msgspec.json.decode(msgspec.json.encode(field.default))
    for field in msgspec.structs.fields(Tool)
    if field.default is not msgspec.NODEFAULT
}


def canonical_tool(tool: Tool) -> Tool:
    """The same tool as it is published: in canonical form, without what equals its default.

    Then the bytes of the encoded tool are themselves canonical, and a reader checks a digest without
    parsing a schema.

    Raises:
        InvalidRequest: a schema is no JSON, or nests too deeply.
    """
    try:
        visible = _visible(tool)
        try:
            text = rfc8785.dumps(visible)
        except rfc8785.IntegerDomainError:
            text = msgspec.json.encode(visible, order="sorted")
        return msgspec.json.decode(text, type=Tool)
    except _NO_JSON as error:
        raise InvalidRequest("the tool has no canonical JSON form") from error


def tool_digest(tool: Tool) -> str:
    """`sha256:<hex>` over everything that a model or a caller can see of the tool.

    Raises:
        InvalidRequest: a schema is no JSON, or nests too deeply.
    """
    try:
        visible = _visible(tool)
        try:
            return sha256_digest(rfc8785.dumps(visible))
        except rfc8785.IntegerDomainError:
            # Real schemas hold 64-bit bounds, which RFC 8785 would round to a double: two different
            # texts would share a digest. They are hashed exactly, in a domain of their own.
            return sha256_digest(b"exact\n" + rfc8785.dumps(_spell_big_integers(visible)))
    except _NO_JSON as error:
        raise InvalidRequest("the tool has no canonical JSON form") from error


def has_digest(tool: Tool, digest: str) -> bool:
    """Whether `digest` is the tool's; cheap where the tool was published in canonical form."""
    # A match of the bytes as they came proves that these are the canonical ones.
    if sha256_digest(msgspec.json.encode(tool)) == digest:
        return True
    try:
        return tool_digest(tool) == digest
    except InvalidRequest:
        return False


def sha256_digest(data: bytes | msgspec.Raw) -> str:
    """`sha256:<hex>` over some bytes."""
    return "sha256:" + sha256(data).hexdigest()


def _visible(tool: Tool) -> dict[str, Any]:
    """What the tool says, however it was written: a default that is spelled out says nothing more."""
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(tool))
    return {
        key: _read_integers(value, MAX_NESTING)
        for key, value in fields.items()
        if key not in _DEFAULTS or value != _DEFAULTS[key]
    }


def _read_integers(value: Any, room: int) -> Any:
    """The value with integers for the doubles that its canonical form would be read back as."""
    if not room and isinstance(value, dict | list):
        raise RecursionError("a schema nests too deeply")
    if isinstance(value, dict):
        return {key: _read_integers(item, room - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_read_integers(item, room - 1) for item in value]
    if isinstance(value, float) and _MAX_SAFE_INTEGER < abs(value) < _EXPONENT_FROM:
        return int(value)
    return value


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
