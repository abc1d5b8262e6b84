"""What every message is, and how it becomes bytes and is read from them."""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from mcp_federation.errors import InvalidRequest

M = TypeVar("M")

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """The base of every message; `type` is the wire name of the class."""


def encode(message: Struct) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def decode(payload: bytes, kind: type[M]) -> M:
    """The message of that class; each union of messages has a function of its own.

    Raises:
        InvalidRequest: the payload is no JSON, or not such a message.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    message: M = decode_by(decoder, payload)
    return message


def decode_by(decoder: msgspec.json.Decoder[M], payload: bytes) -> M:
    """What the decoder makes of a payload; raises as `decode`."""
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not a valid message: {error}") from error
