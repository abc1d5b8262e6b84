"""Names: nodes, tools and what a subject token makes of them. Pure.

A *local name* is any non-empty text; a *node name* is narrow enough that `local@node` splits at the
last `@` without ambiguity.
"""

import re
from hashlib import sha256

from mcp_federation.errors import InvalidRequest

NODE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A node's name: a DNS label, so that it can name a host, a container and a NATS account as well."""

MAX_LOCAL_NAME = 256
"""The longest local name, in UTF-8 bytes: escaped it must stay far below NATS's limits on a subject."""

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_TOKEN = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+")
_ALIAS_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]+")
_ALIAS_LENGTH = 64
_ALIAS_HASH = 8


def check_node_name(name: str) -> str:
    """`name` itself, where it may name a node.

    Raises:
        InvalidRequest: it is not a lower-case DNS label.
    """
    if not NODE_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot name a node: use 1 to 63 of a-z, 0-9 and '-', not at either end"
        )
    return name


def check_local_name(name: str) -> str:
    """`name` itself, where it may name a tool on its node.

    Raises:
        InvalidRequest: it is empty, over `MAX_LOCAL_NAME` bytes of UTF-8, or no valid Unicode.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("a tool name must be valid Unicode") from None
    if not 0 < size <= MAX_LOCAL_NAME:
        raise InvalidRequest(f"a tool name has 1 to {MAX_LOCAL_NAME} bytes of UTF-8, this one {size}")
    return name


def to_token(name: str) -> str:
    """The name as one subject token: injective, legal as a NATS token and as a KV key.

    Letters, digits, `_` and `-` stand for themselves, every other UTF-8 byte becomes `=XX`.
    """
    if len(name) <= MAX_LOCAL_NAME and _PLAIN_NAME.fullmatch(name):
        return name  # as most names are
    return "".join(
        chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in check_local_name(name).encode()
    )


def from_token(token: str) -> str:
    """The name behind a token of `to_token`.

    Raises:
        InvalidRequest: `to_token` gives no such token.
    """
    if len(token) <= MAX_LOCAL_NAME and _PLAIN_NAME.fullmatch(token):
        return token
    if _TOKEN.fullmatch(token):
        raw = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), token.encode())
        try:
            name = raw.decode()
            if to_token(name) == token:
                return name
        except UnicodeDecodeError:
            pass
    raise InvalidRequest(f"{token!r} is not an escaped name")


def local_name(server: str, tool: str) -> str:
    """How a tool of an MCP server is called on its node."""
    return f"{server}.{tool}"


def federated_name(local: str, node: str) -> str:
    """`local@node`."""
    return f"{local}@{node}"


def split_federated_name(name: str) -> tuple[str, str | None]:
    """`(local, node)`; the node is None where `name` has no `@node` at its end."""
    local, at, node = name.rpartition("@")
    if at and local and NODE_NAME.fullmatch(node):
        return local, node
    return name, None


def alias(name: str) -> str:
    """A federated name squeezed into `^[a-zA-Z0-9_-]{1,64}$`, which LLM clients ask of tool names.

    Readable, and unique through a hash wherever a character had to go; the catalog leads back.
    """
    readable = _ALIAS_UNSAFE.sub("_", name)
    if readable == name and len(name) <= _ALIAS_LENGTH:
        return name
    digest = sha256(name.encode()).hexdigest()[:_ALIAS_HASH]
    return f"{readable[: _ALIAS_LENGTH - _ALIAS_HASH - 1]}_{digest}"
