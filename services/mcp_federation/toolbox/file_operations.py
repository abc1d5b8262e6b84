"""The `file_operations_mcp` toolbox: look at, read, list, pack and unpack files held inside one folder."""

import base64
import codecs
import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Required

from anyio.from_thread import check_cancelled
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from typing_extensions import TypedDict

from mcp_federation.toolbox.archives import (
    CHUNK,
    ArchiveLimits,
    Budget,
    entries,
    format_named,
    format_of,
    unpack,
    without_suffix,
)
from mcp_federation.toolbox.folder import Folder, Kind, environment_root, is_unicode, kind_of, shown, split
from mcp_federation.toolbox.packing import pack

Operation = Literal["inspect", "read", "list", "pack", "unpack"]

NAME = "file_operations_mcp"
DESCRIPTION = """\
File operations tool with archive handling, for the files of one shared folder. Use it to look at a file \
(`inspect`: kind, size, type, SHA-256, an archive's contents), to get a file's content (`read`: text, or \
base64 for binary; page with offset and limit), to see a folder (`list`), to make a zip or tar archive \
(`pack`) or to extract one (`unpack`). Paths are relative to the shared folder; links are not followed and \
nothing is ever overwritten."""


@dataclass(frozen=True)
class FileLimits:
    """Bounds of one call: bytes read, names listed, bytes hashed by inspect, and what an archive may hold."""

    read_bytes: int = 1024 * 1024
    list_entries: int = 1000
    hash_bytes: int = 256 * 1024 * 1024
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)


DEFAULT_LIMITS = FileLimits()
_LAST_MOMENT = 253_402_300_799  # the end of the year 9999, the last that datetime knows


class ArchiveContents(TypedDict, total=False):
    """What an archive says it holds."""

    format: Required[Annotated[str, Field(description="zip, tar, tar.gz, tar.bz2 or tar.xz")]]
    entries: Annotated[int, Field(description="How many entries it has")]
    unpacked_bytes: Annotated[int, Field(description="Bytes its entries declare")]
    names: Annotated[list[str], Field(description="The first entries' names, at most 100")]
    problem: Annotated[str, Field(description="Why its contents are not shown and it cannot be unpacked")]


class ListedEntry(TypedDict):
    """One name in a folder."""

    name: Annotated[str, Field(description="Its name in the folder; folders have no trailing slash")]
    kind: Annotated[Kind, Field(description="file, folder, link, or other for devices, pipes and sockets")]
    bytes: Annotated[int, Field(description="Its size; 0 for folders")]
    modified: Annotated[str, Field(description="When it last changed, ISO 8601 in UTC")]


class FileOperationResult(TypedDict, total=False):
    """What an operation found or did; each operation fills its own fields."""

    operation: Required[Annotated[Operation, Field(description="The operation done")]]
    path: Required[Annotated[str, Field(description="The path it was done on; what pack or unpack made")]]
    kind: Annotated[Kind, Field(description="inspect: file, folder, link or other")]
    bytes: Annotated[int, Field(description="inspect, read: the file's size. pack, unpack: bytes of content")]
    modified: Annotated[str, Field(description="inspect: when it last changed, ISO 8601 in UTC")]
    media_type: Annotated[str, Field(description="inspect: the type that its name suggests")]
    sha256: Annotated[str, Field(description="inspect: digest of the content, left out for very large files")]
    encoding: Annotated[
        Literal["utf-8", "base64"], Field(description="inspect, read: utf-8 for text, base64 for binary")
    ]
    archive: Annotated[ArchiveContents, Field(description="inspect: contents, if it is an archive")]
    content: Annotated[str, Field(description="read: the part asked for, in `encoding`")]
    offset: Annotated[
        int, Field(description="read: byte where `content` begins. list: entries left out before")
    ]
    next_offset: Annotated[int, Field(description="read, list: the offset to go on from; absent at the end")]
    entries: Annotated[list[ListedEntry], Field(description="list: this page of the folder, by name")]
    total_entries: Annotated[int, Field(description="list: entries in the folder. inspect: likewise")]
    files: Annotated[int, Field(description="pack, unpack: files packed or written")]
    skipped: Annotated[int, Field(description="pack: links, special files and undecodable names left out")]


@dataclass(frozen=True)
class FileOperations:
    """The operations on one root folder. Each runs on the calling thread and raises ToolError."""

    root: Path
    limits: FileLimits = DEFAULT_LIMITS
    checkpoint: Callable[[], None] = lambda: None

    def _budget(self) -> Budget:
        return Budget(self.limits.archive, self.checkpoint)

    def inspect(self, source: str) -> FileOperationResult:
        """Describe the path itself; a link is not followed."""
        parts = split(source)
        with Folder.open(self.root) as root:
            status = root.status(parts)
            kind = kind_of(status.st_mode)
            result = FileOperationResult(
                operation="inspect", path=source, kind=kind, bytes=status.st_size, modified=_moment(status)
            )
            if kind == "folder":
                with root.enter(parts) as folder:
                    result["bytes"], result["total_entries"] = 0, len(folder.names())
            elif kind == "file":
                result["media_type"] = mimetypes.guess_type(parts[-1])[0] or "application/octet-stream"
                with root.open_file(parts) as file:
                    self._inspect_content(file, result)
        return result

    def _inspect_content(self, file: IO[bytes], found: FileOperationResult) -> None:
        size = os.fstat(file.fileno()).st_size
        found["encoding"] = "base64" if _text(file.read(CHUNK), whole=size <= CHUNK) is None else "utf-8"
        if size <= self.limits.hash_bytes:
            file.seek(0)
            found["sha256"] = self._digest(file)
        if archive := self._archive_contents(file):
            found["archive"] = archive

    def _digest(self, file: IO[bytes]) -> str:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            self.checkpoint()
            digest.update(chunk)
        return digest.hexdigest()

    def _archive_contents(self, file: IO[bytes]) -> ArchiveContents | None:
        kind = format_of(file)
        if kind is None:
            return None
        budget, names, total = self._budget(), list[str](), 0
        try:
            for entry in entries(file, kind, budget):
                total += entry.size
                if len(names) < 100:
                    names.append("/".join(entry.parts) + "/" * entry.folder)
        except ToolError as error:
            return ArchiveContents(format=kind, problem=str(error))
        return ArchiveContents(format=kind, entries=budget.entries, unpacked_bytes=total, names=names)

    def read(self, source: str, offset: int, limit: int | None) -> FileOperationResult:
        """Part of a file: text cut between characters, or base64."""
        wanted = min(limit or CHUNK, self.limits.read_bytes)
        with Folder.open(self.root) as root, root.open_file(split(source)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(offset)
            data = file.read(wanted)
        text = _text(data, whole=offset + len(data) >= size)
        result = FileOperationResult(operation="read", path=source, bytes=size, offset=offset)
        if text is None:
            result["encoding"], result["content"] = "base64", base64.b64encode(data).decode()
        else:
            result["encoding"], result["content"] = "utf-8", text
            data = text.encode()
        if offset + len(data) < size:
            result["next_offset"] = offset + len(data)
        return result

    def list(self, source: str, offset: int, limit: int | None) -> FileOperationResult:
        """One page of a folder's entries, by name."""
        wanted = min(limit or 100, self.limits.list_entries)
        with Folder.open(self.root) as root, root.enter(split(source)) as folder:
            names = folder.names()
            page = list(_listed(folder, names[offset : offset + wanted]))
        result = FileOperationResult(
            operation="list", path=source, entries=page, total_entries=len(names), offset=offset
        )
        if offset + wanted < len(names):
            result["next_offset"] = offset + wanted
        return result

    def pack(self, source: str, target: str) -> FileOperationResult:
        """Make a new archive of a file or of a folder's contents; the format follows the target's suffix."""
        parts = split(source)
        target = target or (parts[-1] if parts else "archive") + ".zip"
        kind = format_named(target)
        if kind is None:
            raise ToolError(f"{shown(target)} should end in .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz")
        budget = self._budget()
        with Folder.open(self.root) as root:
            root.status(parts)
            with root.new_file(split(target)) as out:
                packed = pack(root, parts, out, kind, budget)
        return FileOperationResult(
            operation="pack", path=target, files=packed.files, bytes=budget.bytes, skipped=packed.skipped
        )

    def unpack(self, source: str, target: str) -> FileOperationResult:
        """Extract an archive into a new folder, which appears only when all of it came out."""
        target = target or without_suffix(source)
        budget = self._budget()
        with Folder.open(self.root) as root, root.open_file(split(source)) as file:
            kind = format_of(file)
            if kind is None:
                raise ToolError(f"{shown(source)} is not a zip or tar archive")
            with root.new_folder(split(target)) as folder:
                files, size = unpack(file, kind, folder, budget)
        return FileOperationResult(operation="unpack", path=target, files=files, bytes=size)


def _moment(status: os.stat_result) -> str:
    seconds = min(max(int(status.st_mtime), 0), _LAST_MOMENT)
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _listed(folder: Folder, names: Sequence[str]) -> Iterator[ListedEntry]:
    for name in names:
        with suppress(ToolError):  # it went away since the names were read
            status = folder.status((name,))
            kind = kind_of(status.st_mode)
            readable = name if is_unicode(name) else name.encode("utf-8", "backslashreplace").decode()
            size = status.st_size if kind == "file" else 0
            yield ListedEntry(name=readable, kind=kind, bytes=size, modified=_moment(status))


def _text(data: bytes, *, whole: bool) -> str | None:
    """The bytes as text, less a character cut at the end unless this is the `whole` rest; None if binary."""
    if b"\0" in data:
        return None
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return None
    return text if text or not data else None  # less than one character: bytes, so that paging goes on


def make_file_operations(root: Path, limits: FileLimits = DEFAULT_LIMITS) -> MCPServer[Any]:
    """A server whose one tool works on the files below `root`."""
    server: MCPServer[Any] = MCPServer(
        NAME, title="File operations", description="Files and archives of one shared folder.", version="1.0.0"
    )
    operations = FileOperations(root, limits, check_cancelled)

    @server.tool(
        name=NAME,
        title="File operations",
        description=DESCRIPTION,
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )
    def file_operations_mcp(
        operation: Annotated[Operation, Field(description="What to do with source_path")],
        source_path: Annotated[
            str,
            Field(
                max_length=4096,
                description="The file (inspect, read, pack), folder (inspect, list, pack; '.' is the whole "
                "shared folder) or archive (inspect, unpack), relative to the shared folder",
            ),
        ],
        target_path: Annotated[
            str,
            Field(
                max_length=4096,
                description="Where to put what pack or unpack makes; it must not exist, the folder around it "
                "must. pack: its suffix is the format (.zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz); by "
                "default the source's name with .zip. unpack: by default the archive's without its suffix",
            ),
        ] = "",
        offset: Annotated[
            int, Field(ge=0, le=2**53, description="read: first byte. list: entries to leave out before")
        ] = 0,
        limit: Annotated[
            int | None,
            Field(
                ge=1,
                description=f"read: bytes, {CHUNK} by default and at most {limits.read_bytes}. "
                f"list: entries, 100 by default and at most {limits.list_entries}",
            ),
        ] = None,
    ) -> FileOperationResult:
        match operation:
            case "inspect":
                return operations.inspect(source_path)
            case "read":
                return operations.read(source_path, offset, limit)
            case "list":
                return operations.list(source_path, offset, limit)
            case "pack":
                return operations.pack(source_path, target_path)
            case "unpack":
                return operations.unpack(source_path, target_path)

    return server


@cache
def _server() -> MCPServer[Any]:
    return make_file_operations(environment_root())


def __getattr__(name: str) -> MCPServer[Any]:
    if name == "server":
        return _server()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
