"""Reading zip and tar archives that nobody vouches for, within bounds checked on what streams."""

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Literal, Self

from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox.folder import Folder, Parts, shown, split

Format = Literal["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]

CHUNK = 64 * 1024
_HEADER = 4 * 1024 * 1024  # the most that one header or directory of an archive may make us hold
_RATIO_FLOOR = 1024 * 1024  # below this many bytes no ratio is suspicious
_SUFFIXES: dict[str, Format] = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.bz2": "tar.bz2",
    ".tar.xz": "tar.xz",
}
_MAGIC: dict[bytes, Format] = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\x00": "tar.xz",
}
# What the standard library's parsers raise on hostile bytes, RecursionError and MemoryError among them.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    NotImplementedError,
    RecursionError,
    ValueError,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds on one archive: entries, bytes unpacked, and bytes unpacked for each packed one."""

    entries: int = 10_000
    total_bytes: int = 256 * 1024 * 1024
    ratio: int = 200


class Budget:
    """What one operation may still use; `checkpoint`, called often, raises when the call is cancelled."""

    def __init__(self, limits: ArchiveLimits, checkpoint: Callable[[], None] = lambda: None) -> None:
        self.limits = limits
        self.checkpoint = checkpoint
        self.entries = 0
        self.bytes = 0

    def entry(self) -> None:
        """Count one entry."""
        self.checkpoint()
        self.entries += 1
        if self.entries > self.limits.entries:
            raise ToolError(f"More than {self.limits.entries} entries")

    def spend(self, count: int, packed: int | None = None) -> None:
        """Count bytes; `packed` is how many the archive has given for all of them so far."""
        self.checkpoint()
        self.bytes += count
        if self.bytes > self.limits.total_bytes:
            raise ToolError(f"More than {self.limits.total_bytes} bytes unpacked")
        if packed is not None and self.bytes > max(_RATIO_FLOOR, packed * self.limits.ratio):
            raise ToolError(f"Unpacks to more than {self.limits.ratio} times its size, like a zip bomb")


@dataclass(frozen=True)
class Entry:
    """One file or folder of an archive. `size` is declared; `content` is read before the next entry."""

    parts: Parts
    folder: bool
    size: int
    content: Iterator[bytes]


def format_named(name: str) -> Format | None:
    """The archive format that a file name's suffix stands for."""
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), None)


def without_suffix(path: str) -> str:
    """The path without its archive suffix."""
    suffix = next((suffix for suffix in _SUFFIXES if path.lower().endswith(suffix)), "")
    return path[: len(path) - len(suffix)]


def format_of(file: IO[bytes]) -> Format | None:
    """The archive format that a file's first bytes stand for; leaves the file at its start."""
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if head[257:262] == b"ustar":
        return "tar"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def entries(file: IO[bytes], kind: Format, budget: Budget) -> Iterator[Entry]:
    """Walk an archive. Raises ToolError for links, devices, names that leave, damage and excess."""
    source = _Source(file)
    with _damage():
        yield from _zip_entries(source, budget) if kind == "zip" else _tar_entries(source, kind, budget)


def unpack(file: IO[bytes], kind: Format, target: Folder, budget: Budget) -> tuple[int, int]:
    """Write an archive's entries below `target`; the number of files written and of their bytes."""
    files = size = 0
    made: set[Parts] = {()}
    for entry in entries(file, kind, budget):
        parents = entry.parts if entry.folder else entry.parts[:-1]
        for depth in range(1, len(parents) + 1):
            if parents[:depth] not in made:
                made.add(parents[:depth])
                if depth < len(entry.parts):  # a folder without an entry of its own still costs one
                    budget.entry()
        with target.enter(parents, make=True) as folder:
            if not entry.folder:
                size += folder.create(entry.parts[-1], entry.content)
                files += 1
    return files, size


@contextmanager
def _damage() -> Iterator[None]:
    """Say of what the parsers raise on bad bytes that the archive is damaged."""
    try:
        yield
    except _DAMAGED as error:
        raise ToolError("The archive is damaged, or is not one") from error


def _member_parts(name: str) -> Parts:
    if "\\" in name or re.match("[A-Za-z]:", name):
        raise ToolError(f"The archive's entry {shown(name)} has a name that could leave the target")
    return split(name)


class _Source(io.BufferedReader):
    """An archive's own bytes: counts what is read, and refuses to hold a vast piece at once."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(_Borrowed(file), CHUNK)
        self.seek(0)  # the owner's buffer may have left the descriptor further on
        self.consumed = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(_HEADER + 1 if size is None or size < 0 else min(size, _HEADER + 1))
        if len(data) > _HEADER:
            raise ToolError("The archive's directory is too large")
        self.consumed += len(data)
        return data


class _Borrowed(io.FileIO):
    """A file whose closing is its owner's business."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file.fileno(), "rb", closefd=False)


def _zip_entries(source: _Source, budget: Budget) -> Iterator[Entry]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            budget.entry()
            if info.flag_bits & 0x1:
                raise ToolError("The archive is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile inflates a whole block of the others at once, however large it grows.
                raise ToolError("The zip archive is compressed with something other than deflate")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ToolError(f"The archive's entry {shown(info.filename)} is a link or a special file")
            if parts := _member_parts(info.filename):
                content = _zip_content(archive, info, source, budget)
                yield Entry(parts, info.is_dir(), info.file_size, content)


def _zip_content(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: _Source, budget: Budget
) -> Iterator[bytes]:
    with _damage(), archive.open(info) as member:
        while chunk := member.read(CHUNK):
            budget.spend(len(chunk), source.consumed)
            yield chunk


def _decompressed(source: _Source, kind: Format) -> io.BufferedIOBase:
    match kind:
        case "tar.gz":
            return gzip.GzipFile(fileobj=source)
        case "tar.bz2":
            return bz2.BZ2File(source)
        case "tar.xz":
            return lzma.LZMAFile(source)
    return source


class _Inflated(io.RawIOBase):
    """A tar's bytes, decompressed: charges them to the budget and bounds what one header may hold."""

    def __init__(self, source: _Source, kind: Format, budget: Budget) -> None:
        self._source, self._budget = source, budget
        self._stream = _decompressed(source, kind)
        self.renew()

    def renew(self) -> None:
        """Allow the next header, or the next piece of content."""
        self._allowance = _HEADER

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._allowance -= len(data)
        if self._allowance < 0:
            raise ToolError("The archive has a header that is too large")
        self._budget.spend(len(data), self._source.consumed)
        return data


class _StrictMember(tarfile.TarInfo):
    """A header whose damage is an error also after the first, where tarfile sees the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):
                raise ToolError("The archive is damaged, or is not one") from error
            raise


def _tar_entries(source: _Source, kind: Format, budget: Budget) -> Iterator[Entry]:
    stream = _Inflated(source, kind, budget)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictMember) as archive:
        while True:
            stream.renew()
            member = archive.next()
            if member is None:
                return
            budget.entry()
            if member.issparse() or not (member.isreg() or member.isdir()):
                raise ToolError(f"The archive's entry {shown(member.name)} is a link or a special file")
            content = _tar_content(archive, member, stream)
            if parts := _member_parts(member.name):
                yield Entry(parts, member.isdir(), member.size, content)
            for _ in content:  # what nobody read is read past, within the same bounds
                pass


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo, stream: _Inflated) -> Iterator[bytes]:
    file = archive.extractfile(member)
    with _damage():
        while file and (chunk := file.read(CHUNK)):
            yield chunk
            stream.renew()
