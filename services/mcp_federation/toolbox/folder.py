"""Folders that no path leaves: each component is opened from the one before, and no link is followed."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Literal, Self

from mcp.server.mcpserver.exceptions import ToolError

Parts = tuple[str, ...]
Kind = Literal["file", "folder", "link", "other"]

MAX_DEPTH = 64
MAX_NAMES = 100_000
ROOT_VARIABLE = "MCP_FEDERATION_TOOLBOX_ROOT"

_STAGING = ".mcp-staging-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Without O_NONBLOCK, opening a FIFO that slipped in after the check would wait for a writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

_REASONS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "leads through something that is not a folder, or through a symbolic link",
    errno.ELOOP: "is a symbolic link, and links are not followed",
    errno.EEXIST: "exists already, and nothing is overwritten",
    errno.ENOTEMPTY: "exists already, and nothing is overwritten",
    errno.EACCES: "may not be used: permission denied",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.ENOSPC: "does not fit: the disk is full",
    errno.EISDIR: "is a folder",
}


def environment_root() -> Path:
    """The folder that MCP_FEDERATION_TOOLBOX_ROOT names, else the current one."""
    return Path(os.environ.get(ROOT_VARIABLE) or Path.cwd())


def is_unicode(name: str) -> bool:
    """Whether a name can be said in JSON: a file's name on disk is any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def split(path: str) -> Parts:
    """The components of a relative path, `()` for the root. Raises ToolError for one that would leave it."""
    if not is_unicode(path) or "\0" in path:
        raise ToolError("The path is not valid Unicode, or holds a NUL character")
    if path.startswith("/"):
        raise ToolError(f"{shown(path)} is absolute: give a path relative to the toolbox's folder")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ToolError(f"{shown(path)} holds '..', and paths cannot leave the toolbox's folder")
    if len(parts) > MAX_DEPTH:
        raise ToolError(f"{shown(path)} is more than {MAX_DEPTH} folders deep")
    if any(part.startswith(_STAGING) for part in parts):
        raise ToolError(f"{shown(path)} is a name that the toolbox keeps for itself")
    return parts


def shown(path: str | Parts) -> str:
    """The path as an error shows it: quoted, printable, bounded."""
    text = path if isinstance(path, str) else "/".join(path) or "."
    return repr(text if len(text) <= 200 else text[:197] + "...")


def kind_of(mode: int) -> Kind:
    """What a file mode describes."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


@contextmanager
def _described(path: Parts) -> Iterator[None]:
    """Turn an OSError, whose text may show host paths, into a ToolError about the caller's path."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"{shown(path)} {_REASONS.get(error.errno or 0, 'cannot be used')}") from error


def _require_regular(parts: Parts, status: os.stat_result) -> os.stat_result:
    kind = kind_of(status.st_mode)
    if kind != "file":
        what = {"folder": "a folder", "link": "a symbolic link"}.get(kind, "a special file")
        raise ToolError(f"{shown(parts)} is {what}, not a regular file")
    return status


class Folder:
    """An open folder, used as a context manager. Paths are relative to it and never leave it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder of the host. Raises ToolError, without its path, when it is not there."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        except OSError as error:
            raise ToolError("The toolbox's folder is missing or may not be read") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def enter(self, parts: Parts, *, make: bool = False) -> "Folder":
        """Open a folder below this one, with `make` creating what is missing. The caller closes it."""
        descriptor = os.dup(self.descriptor)
        try:
            with _described(parts):
                for part in parts:
                    if make:
                        with suppress(FileExistsError):
                            os.mkdir(part, 0o755, dir_fd=descriptor)
                    inner = os.open(part, _FOLDER, dir_fd=descriptor)
                    os.close(descriptor)
                    descriptor = inner
        except ToolError:
            os.close(descriptor)
            raise
        return Folder(descriptor)

    def status(self, parts: Parts) -> os.stat_result:
        """What is at the path itself; a link is described, not followed."""
        if not parts:
            return os.fstat(self.descriptor)
        with self.enter(parts[:-1]) as parent, _described(parts):
            return os.stat(parts[-1], dir_fd=parent.descriptor, follow_symlinks=False)

    def regular(self, parts: Parts) -> os.stat_result:
        """The status of a regular file. Raises ToolError for links, folders, devices and pipes."""
        return _require_regular(parts, self.status(parts))

    def open_file(self, parts: Parts) -> IO[bytes]:
        """Open a regular file for reading; anything else is refused."""
        # Looked at before it is opened, since opening a device can act; and again after, since it may change.
        self.regular(parts)
        with self.enter(parts[:-1]) as parent, _described(parts):
            file = os.fdopen(os.open(parts[-1], _READ, dir_fd=parent.descriptor), "rb")
        try:
            _require_regular(parts, os.fstat(file.fileno()))
        except ToolError:
            file.close()
            raise
        return file

    def names(self) -> list[str]:
        """The sorted names in this folder. Raises ToolError past MAX_NAMES."""
        with _described(()), os.scandir(self.descriptor) as entries:
            names = [entry.name for entry in islice(entries, MAX_NAMES + 1)]
        if len(names) > MAX_NAMES:
            raise ToolError(f"The folder holds more than {MAX_NAMES} entries")
        return sorted(name for name in names if not name.startswith(_STAGING))

    def create(self, name: str, content: Iterator[bytes]) -> int:
        """Write a new file in this folder; its bytes. Raises ToolError when the name is taken."""
        with _described((name,)):
            descriptor = os.open(name, _CREATE, 0o644, dir_fd=self.descriptor)
            with os.fdopen(descriptor, "wb") as file:
                return sum(file.write(chunk) for chunk in content)

    @contextmanager
    def new_file(self, parts: Parts) -> Iterator[IO[bytes]]:
        """A file that appears at the path, whole, when the block ends well; else nothing does."""
        with self._parent_of_new(parts) as parent:
            staged = _STAGING + secrets.token_hex(8)
            with _described(parts):
                descriptor = os.open(staged, _CREATE, 0o644, dir_fd=parent.descriptor)
            try:
                with _described(parts):
                    with os.fdopen(descriptor, "wb") as file:
                        yield file
                    # A hard link, unlike a rename, never replaces what is there.
                    os.link(staged, parts[-1], src_dir_fd=parent.descriptor, dst_dir_fd=parent.descriptor)
            finally:
                os.unlink(staged, dir_fd=parent.descriptor)

    @contextmanager
    def new_folder(self, parts: Parts) -> Iterator["Folder"]:
        """A folder that appears at the path, filled, when the block ends well; else nothing does."""
        with self._parent_of_new(parts) as parent:
            staged = _STAGING + secrets.token_hex(8)
            with _described(parts):
                os.mkdir(staged, 0o755, dir_fd=parent.descriptor)
            try:
                with parent.enter((staged,)) as folder:
                    yield folder
                with _described(parts):
                    descriptor = parent.descriptor
                    os.rename(staged, parts[-1], src_dir_fd=descriptor, dst_dir_fd=descriptor)
            except BaseException:
                shutil.rmtree(staged, dir_fd=parent.descriptor)
                raise

    @contextmanager
    def _parent_of_new(self, parts: Parts) -> Iterator["Folder"]:
        """The folder that will hold a new path, after seeing that the path is free."""
        if not parts:
            raise ToolError("The toolbox's folder itself cannot be the target")
        with self.enter(parts[:-1]) as parent:
            with _described(parts), suppress(FileNotFoundError):
                os.stat(parts[-1], dir_fd=parent.descriptor, follow_symlinks=False)
                raise ToolError(f"{shown(parts)} {_REASONS[errno.EEXIST]}")
            yield parent
