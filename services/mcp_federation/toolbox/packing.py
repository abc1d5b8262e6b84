"""Writing zip and tar archives from what a folder holds, within bounds."""

import io
import os
import stat
import tarfile
import time
import zipfile
from dataclasses import dataclass
from typing import IO

from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox.archives import CHUNK, Budget, Format
from mcp_federation.toolbox.folder import MAX_DEPTH, Folder, Parts, is_unicode, kind_of, shown

_ZIP_FROM, _ZIP_UNTIL = 315_532_800, 4_354_819_198  # 1980 to 2107, the years that zip can tell


@dataclass
class Packed:
    """What went into an archive, and how many links, special files and undecodable names did not."""

    files: int = 0
    skipped: int = 0


def pack(source: Folder, parts: Parts, out: IO[bytes], kind: Format, budget: Budget) -> Packed:
    """Write a file, or the contents of a folder, as an archive to `out`."""
    with _archive(out, kind) as archive:
        packer = _Packer(archive, budget)
        if kind_of(source.status(parts).st_mode) == "folder":
            with source.enter(parts) as folder:
                packer.contents(folder, ())
        else:
            with source.open_file(parts) as file:
                packer.file(file, parts[-1:])
        return packer.packed


def _archive(out: IO[bytes], kind: Format) -> zipfile.ZipFile | tarfile.TarFile:
    match kind:
        case "zip":
            return zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)
        case "tar":
            return tarfile.open(fileobj=out, mode="w:")
        case "tar.gz":
            return tarfile.open(fileobj=out, mode="w:gz")
        case "tar.bz2":
            return tarfile.open(fileobj=out, mode="w:bz2")
        case "tar.xz":
            return tarfile.open(fileobj=out, mode="w:xz", preset=1)


class _Packer:
    def __init__(self, archive: zipfile.ZipFile | tarfile.TarFile, budget: Budget) -> None:
        self._archive, self._budget = archive, budget
        self.packed = Packed()

    def contents(self, folder: Folder, below: Parts) -> None:
        """Add what a folder holds, under the names in `below`."""
        if len(below) > MAX_DEPTH:
            raise ToolError(f"More than {MAX_DEPTH} folders deep")
        for name in folder.names():
            path = (*below, name)
            kind = kind_of(folder.status((name,)).st_mode)
            if kind in ("link", "other") or not is_unicode(name):
                self.packed.skipped += 1
            elif kind == "folder":
                self._budget.entry()
                self._write_folder("/".join(path))
                with folder.enter((name,)) as inner:
                    self.contents(inner, path)
            else:
                with folder.open_file((name,)) as file:
                    self.file(file, path)

    def file(self, file: IO[bytes], path: Parts) -> None:
        """Add one file, at the size that it has now."""
        status = os.fstat(file.fileno())
        self._budget.entry()
        self._budget.spend(status.st_size)
        self.packed.files += 1
        self._write_file("/".join(path), status, _Steady(file, path, status.st_size, self._budget))

    def _write_folder(self, name: str) -> None:
        if isinstance(self._archive, zipfile.ZipFile):
            self._archive.writestr(zipfile.ZipInfo(name + "/"), b"")
        else:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            self._archive.addfile(info)

    def _write_file(self, name: str, status: os.stat_result, content: "_Steady") -> None:
        if isinstance(self._archive, tarfile.TarFile):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = status.st_size, int(status.st_mtime)
            self._archive.addfile(member, content)
            return
        info = zipfile.ZipInfo(name, time.gmtime(min(max(status.st_mtime, _ZIP_FROM), _ZIP_UNTIL))[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (stat.S_IFREG | 0o644) << 16
        info.file_size = status.st_size
        with self._archive.open(info, "w") as out:
            while chunk := content.read(CHUNK):
                out.write(chunk)


class _Steady(io.BufferedIOBase):
    """A file read to the size it had when it was opened, however it changes meanwhile."""

    def __init__(self, file: IO[bytes], path: Parts, size: int, budget: Budget) -> None:
        self._file, self._path, self._left, self._budget = file, path, size, budget

    def read(self, size: int | None = -1, /) -> bytes:
        self._budget.checkpoint()
        wanted = self._left if size is None or size < 0 else min(self._left, size)
        data = self._file.read(wanted)
        if len(data) < wanted:
            raise ToolError(f"{shown(self._path)} shrank while it was packed")
        self._left -= wanted
        return data
