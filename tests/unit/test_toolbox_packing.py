import os
import stat
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.from_thread import check_cancelled
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox.archives import ArchiveLimits
from mcp_federation.toolbox.file_operations import FileLimits, FileOperations
from tests.support.shared_folder import call, everything, fill


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
async def test_what_is_packed_is_unpacked_the_same(root: Path, suffix: str) -> None:
    os.utime(root / "docs" / "a.txt", (0, 0))
    (root / "docs" / "link").symlink_to("a.txt")
    packed = await call(root, operation="pack", source_path="docs", target_path="packed" + suffix)
    assert (packed["files"], packed["bytes"], packed["skipped"]) == (2, 1256, 1)
    inspected = await call(root, operation="inspect", source_path="packed" + suffix)
    assert inspected["archive"]["names"] == ["a.txt", "deep/", "deep/b.bin"]
    assert inspected["archive"]["unpacked_bytes"] == 1256
    unpacked = await call(root, operation="unpack", source_path="packed" + suffix)
    assert (unpacked["path"], unpacked["files"], unpacked["bytes"]) == ("packed", 2, 1256)
    assert (root / "packed" / "a.txt").read_text() == "a" * 1000
    assert (root / "packed" / "deep" / "b.bin").read_bytes() == bytes(range(256))
    assert not stat.S_IMODE((root / "packed" / "a.txt").stat().st_mode) & 0o111


async def test_one_file_is_packed_beside_itself_by_default(root: Path) -> None:
    packed = await call(root, operation="pack", source_path="notes.txt")
    assert packed["path"] == "notes.txt.zip"
    unpacked = await call(root, operation="unpack", source_path="notes.txt.zip", target_path="out")
    assert unpacked["files"] == 1
    assert (root / "out" / "notes.txt").read_text() == "héllo wörld"


async def test_the_whole_root_is_packed_without_the_archive_itself(root: Path) -> None:
    packed = await call(root, operation="pack", source_path=".")
    assert (packed["path"], packed["files"], packed["skipped"]) == ("archive.zip", 3, 2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"source_path": "docs", "target_path": "docs.rar"}, "should end in"),
        ({"source_path": "docs", "target_path": "no/where.zip"}, "does not exist"),
        ({"source_path": "docs", "target_path": "way_out/x.zip"}, "symbolic link"),
        ({"source_path": "docs", "target_path": "../x.zip"}, "'..'"),
        ({"source_path": "nothing"}, "does not exist"),
        ({"source_path": "link.txt"}, "symbolic link"),
        ({"source_path": "docs", "target_path": "x" * 300 + ".zip"}, "too long"),
    ],
)
async def test_packing_says_why_it_cannot_and_makes_nothing(
    root: Path, arguments: dict[str, Any], reason: str
) -> None:
    before = everything(root.parent)
    with pytest.raises(ToolError, match=reason):
        await call(root, operation="pack", **arguments)
    assert everything(root.parent) == before


async def test_nothing_is_overwritten(root: Path) -> None:
    (root / "taken.zip").write_text("mine")
    with pytest.raises(ToolError, match="exists already"):
        await call(root, operation="pack", source_path="docs", target_path="taken.zip")
    await call(root, operation="pack", source_path="docs")
    (root / "way_in").symlink_to("docs")
    for target in ("docs", "notes.txt", "way_in"):
        with pytest.raises(ToolError, match="exists already"):
            await call(root, operation="unpack", source_path="docs.zip", target_path=target)
    with pytest.raises(ToolError, match="itself cannot be the target"):
        await call(root, operation="unpack", source_path="docs.zip", target_path=".")
    assert (root / "taken.zip").read_text() == "mine"


@pytest.mark.parametrize("limits", [ArchiveLimits(entries=2), ArchiveLimits(total_bytes=1100)])
async def test_packing_stops_at_its_bounds_and_leaves_nothing(root: Path, limits: ArchiveLimits) -> None:
    before = everything(root)
    with pytest.raises(ToolError, match="More than"):
        await call(root, FileLimits(archive=limits), operation="pack", source_path="docs")
    assert everything(root) == before


async def test_folders_deeper_than_any_path_may_be_are_not_packed(root: Path) -> None:
    (root / "deep" / "/".join("d" * 70)).mkdir(parents=True)
    with pytest.raises(ToolError, match="folders deep"):
        await call(root, operation="pack", source_path="deep")


@pytest.mark.parametrize("target", ["docs.zip", "docs.tar"])
def test_a_file_that_shrinks_while_it_is_packed_fails_the_archive(root: Path, target: str) -> None:
    (root / "docs" / "a.txt").write_bytes(os.urandom(200_000))

    def shrink() -> None:
        os.truncate(root / "docs" / "a.txt", 10)

    with pytest.raises(ToolError, match="shrank"):
        FileOperations(root, checkpoint=shrink).pack("docs", target)
    assert not (root / target).exists()


def test_a_target_that_appears_meanwhile_is_kept(root: Path) -> None:
    def occupy() -> None:
        (root / "docs.zip").write_text("theirs")

    with pytest.raises(ToolError, match="exists already"):
        FileOperations(root, checkpoint=occupy).pack("docs", "docs.zip")
    assert (root / "docs.zip").read_text() == "theirs"

    FileOperations(root).pack("docs", "other.zip")

    def occupy_folder() -> None:
        (root / "other").mkdir(exist_ok=True)
        (root / "other" / "theirs").touch()

    with pytest.raises(ToolError, match="exists already"):
        FileOperations(root, checkpoint=occupy_folder).unpack("other.zip", "other")
    assert sorted(path.name for path in root.iterdir() if path.name.startswith(".")) == []


async def test_a_cancelled_call_ends_soon_and_leaves_nothing_behind(root: Path) -> None:
    FileOperations(root).pack("docs", "docs.zip")
    before = everything(root)
    working, cancelled = threading.Event(), threading.Event()

    def checkpoint() -> None:
        working.set()
        assert cancelled.wait(10)
        check_cancelled()

    operations = FileOperations(root, checkpoint=checkpoint)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, operations.unpack, "docs.zip", "out")
            await anyio.to_thread.run_sync(working.wait, 10)
            group.cancel_scope.cancel()
            cancelled.set()
    assert everything(root) == before
