"""The JSON-RPC of `tools/call` by bytes: requests are put together, answers taken apart, results pass."""

import re
from typing import TYPE_CHECKING, Any

import msgspec
from mcp import MCPError
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
    Implementation,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from msgspec import UNSET, Raw, Struct, UnsetType

from mcp_federation.contract.messages import Progress
from mcp_federation.contract.text import mend_surrogates
from mcp_federation.node.servers.calls.calling import Disconnected
from mcp_federation.node.servers.faults import call_error
from mcp_federation.version import VERSION

if TYPE_CHECKING:
    MaybeRaw = Raw | UnsetType
else:
    MaybeRaw = Raw  # in a union msgspec forgets Raw

MAX_MESSAGE = 10_000
"""Characters of a progress's message that are passed on."""

CLIENT_INFO = Implementation(name="mcp-federation", version=VERSION)


class RpcError(Struct):
    """The error of a JSON-RPC answer; the code should be a whole number, which not all servers know."""

    code: Any = None
    message: Any = ""


class Incoming(Struct):
    """Any JSON-RPC message of a server, as far as one who calls tools looks at it."""

    id: int | str | None = None
    method: str | None = None
    params: MaybeRaw = UNSET
    result: MaybeRaw = UNSET
    error: RpcError | None = None


class _ProgressParams(Struct, rename="camel"):
    progress_token: int | str
    progress: float
    total: float | None = None
    message: str | None = None


_NUMBER = re.compile(r"[0-9]{1,19}")
_decode = msgspec.json.Decoder(Incoming).decode
_decode_progress = msgspec.json.Decoder(_ProgressParams).decode
_encode = msgspec.json.Encoder().encode


def decode(message: bytes) -> Incoming | None:
    """The message; None where it is none.

    Half of a surrogate pair, which JavaScript makes where it cuts an emoji in two, is replaced.
    """
    try:
        return _decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        mended = mend_surrogates(message)
        return decode(mended) if mended != message else None


def progress_of(params: MaybeRaw) -> tuple[int | str, Progress] | None:
    """The token and the progress of a `notifications/progress`; None where it is malformed."""
    if params is UNSET:
        return None
    try:
        given = _decode_progress(params)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    message = given.message[:MAX_MESSAGE] if given.message is not None else None
    return given.progress_token, Progress(progress=given.progress, total=given.total, message=message)


def number_of(given: int | str | None) -> int | None:
    """Which request of ours is meant: some servers make a text of its number, and clients take that."""
    if isinstance(given, str):
        return int(given) if _NUMBER.fullmatch(given) else None
    return given


class Requests:
    """Puts `tools/call` requests together, as the negotiated revision wants them."""

    def __init__(self, protocol_version: str) -> None:
        self.is_stateless = protocol_version in MODERN_PROTOCOL_VERSIONS
        meta: dict[str, Any] = {}
        if self.is_stateless:
            meta = {
                PROTOCOL_VERSION_META_KEY: protocol_version,
                CLIENT_INFO_META_KEY: CLIENT_INFO.model_dump(by_alias=True, mode="json", exclude_none=True),
                CLIENT_CAPABILITIES_META_KEY: {},
            }
        self._meta = b',"_meta":' + _encode(meta) if meta else b""
        self._with_token = b',"_meta":' + _encode({**meta, "progressToken": 0})[:-2]

    def call(self, number: int, name: str, arguments: dict[str, Any], wants_progress: bool) -> bytes:
        """The request of that number, which is its progress token too."""
        meta = b"%b%d}" % (self._with_token, number) if wants_progress else self._meta
        head = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":' % number
        return b'%b%b,"arguments":%b%b}}' % (head, _encode(name), _encode(arguments), meta)


def cancelled(number: int) -> bytes:
    """The notification that nobody waits for that request any more."""
    params = b'{"requestId":%d,"reason":"nobody waits for it any more"}' % number
    return b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":%b}' % params


def refusal(error: RpcError, server: str, tool: str) -> Exception:
    """What an error that answered a call means to who called."""
    if error.code == INVALID_REQUEST:
        # Our requests are valid; what is not may be the state of the connection.
        return Disconnected(f"the MCP server {server!r} no longer takes calls on this connection")
    code = error.code if isinstance(error.code, int) else INTERNAL_ERROR
    return call_error(MCPError(code, str(error.message)), server, tool)
