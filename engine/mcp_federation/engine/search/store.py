"""The index on disk: what a start does not compute again."""

from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from mcp_federation.engine.search.encoder import StaticEncoder
from mcp_federation.engine.search.index import ARRAYS, Index
from mcp_federation.engine.search.lexical import DumpedWords
from mcp_federation.files import write_whole
from mcp_federation.logs import get_logger

log = get_logger("engine")

FILE_NAME = "tool-index.msgpack"
FORMAT = b"MCP Federation tool index 6\n"
"""What the file begins with; then comes the digest of the rest."""

_DIGEST = 32


class _Array(Struct):
    kind: str
    shape: tuple[int, ...]
    data: memoryview


class _Stored(Struct):
    """`maker` names the weights and the code that made it; what others made is of no use."""

    maker: str
    digests: dict[str, bytes]
    slots: dict[str, int]
    servers: dict[str, int]
    arrays: dict[str, _Array]
    words: DumpedWords


def save_index(folder: Path, index: Index, digests: Mapping[str, bytes]) -> None:
    """Write the index in place of the former one; a disk that refuses is logged."""
    arrays = {name: getattr(index, name) for name in ARRAYS}
    try:
        stored = _Stored(
            _maker(index.encoder),
            dict(digests),
            index.slots,
            index.server_ids,
            {
                name: _Array(rows.dtype.str, rows.shape, rows.ravel().view(np.uint8).data)
                for name, rows in arrays.items()
            },
            index.words.dump(),
        )
        content = msgspec.msgpack.encode(stored)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FILE_NAME, FORMAT, _digest(content), content)
    except OSError as error:
        log.warn("index_not_saved", folder=str(folder), reason=error.strerror)


def load_index(folder: Path, encoder: StaticEncoder) -> tuple[Index, dict[str, bytes]]:
    """The index that was saved, and its documents' digests by key.

    An index that is not there, is not what was written, or was made by other weights or by another version of
    the code is an empty one.
    """
    index = Index(encoder)
    try:
        stored = _read(folder / FILE_NAME)
        if stored.maker != _maker(encoder):
            return index, {}
        arrays = {
            name: np.frombuffer(rows.data, dtype=np.dtype(rows.kind)).reshape(rows.shape).copy()
            for name, rows in stored.arrays.items()
        }
        index.words.load(stored.words)
        index.fill(arrays, stored.slots, stored.servers)
    except FileNotFoundError:
        return Index(encoder), {}
    except (OSError, ValueError, TypeError, KeyError, msgspec.DecodeError) as error:
        log.warn("index_not_read", folder=str(folder), reason=type(error).__name__)
        return Index(encoder), {}
    return index, stored.digests


def _read(file: Path) -> _Stored:
    content = memoryview(file.read_bytes())
    head = len(FORMAT) + _DIGEST
    if content[:head] != FORMAT + _digest(content[head:]):
        raise ValueError("it is not what was written")
    return msgspec.msgpack.decode(content[head:], type=_Stored)


def _maker(encoder: StaticEncoder) -> str:
    return f"{encoder.fingerprint} {_code()}"


@cache
def _code() -> str:
    """A digest of the code that an index is a matter of: a changed line of it may make another one."""
    engine = files("mcp_federation.engine")
    modules = [
        engine / "text.py",
        *(file for file in (engine / "search").iterdir() if file.name.endswith(".py")),
    ]
    code = b"\0".join(module.read_bytes() for module in sorted(modules, key=lambda module: module.name))
    return blake2b(code, digest_size=_DIGEST).hexdigest()


def _digest(content: bytes | memoryview) -> bytes:
    return blake2b(content, digest_size=_DIGEST).digest()
