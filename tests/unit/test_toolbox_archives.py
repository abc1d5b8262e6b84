import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox.archives import ArchiveLimits
from mcp_federation.toolbox.file_operations import FileLimits, FileOperations

MIB = 1024 * 1024
TAR_MODES = {"tar": "w:", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def zip_of(*entries: tuple[zipfile.ZipInfo | str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content, compression)
    return out.getvalue()


def tar_of(*members: tuple[tarfile.TarInfo, bytes], kind: str = "tar") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=TAR_MODES[kind]) as archive:  # type: ignore[call-overload]  # a table of modes
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def zip_link(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def unpack(root: Path, data: bytes, limits: ArchiveLimits | None = None) -> list[str]:
    """The files that come out, after seeing that a failure leaves none."""
    (root / "archive").write_bytes(data)
    operations = FileOperations(root, FileLimits(archive=limits or ArchiveLimits()))
    before = sorted(root.parent.rglob("*"))
    failure: ToolError | None = None
    try:
        operations.unpack("archive", "out")
    except ToolError as error:
        failure = error
    if failure:
        assert sorted(root.parent.rglob("*")) == before
        assert str(root.parent) not in str(failure)
        raise failure
    return sorted(str(path.relative_to(root / "out")) for path in (root / "out").rglob("*") if path.is_file())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_folders_dots_and_unlisted_parents_come_out_as_meant(root: Path) -> None:
    data = zip_of(("./a/b/c.txt", b"c"), ("a/", b""), ("./", b""), ("empty/", b""))
    assert unpack(root, data) == ["a/b/c.txt"]
    assert (root / "out" / "empty").is_dir()


def test_a_tar_from_elsewhere_with_a_root_entry_and_long_names_comes_out(root: Path) -> None:
    long = "n" * 200 + "/" + "f" * 200
    data = tar_of((member(".", tarfile.DIRTYPE), b""), (member("./" + long), b"x"), kind="tar.gz")
    assert unpack(root, data) == [long]


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:/evil", "c:evil", "a\\b"]
)
def test_an_entry_whose_name_would_leave_is_refused_and_all_with_it(root: Path, name: str) -> None:
    with pytest.raises(ToolError, match=r"leave|absolute"):
        unpack(root, zip_of(("good.txt", b"good"), (name, b"evil")))
    with pytest.raises(ToolError, match=r"leave|absolute"):
        unpack(root, tar_of((member("good.txt"), b"good"), (member(name), b"evil")))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(root: Path, kind: bytes) -> None:
    data = tar_of((member("good.txt"), b"good"), (member("bad", kind, "/etc"), b""), (member("bad/x"), b"x"))
    with pytest.raises(ToolError, match="link or a special file"):
        unpack(root, data)


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o060644])
def test_links_and_devices_in_a_zip_are_refused(root: Path, mode: int) -> None:
    with pytest.raises(ToolError, match="link or a special file"):
        unpack(root, zip_of(("good.txt", b"good"), (zip_link("bad", mode), b"/etc")))


def test_an_entry_that_comes_twice_or_below_a_file_is_refused(root: Path) -> None:
    with pytest.raises(ToolError, match="exists already"):
        unpack(root, tar_of((member("a"), b"1"), (member("a"), b"2")))
    with pytest.raises(ToolError, match="not a folder"):
        unpack(root, tar_of((member("a"), b"1"), (member("a/b"), b"2")))


def test_a_zip_bomb_is_stopped_by_its_ratio(root: Path) -> None:
    bomb = zip_of(("zeros", bytes(8 * MIB)))
    assert len(bomb) < 10_000
    with pytest.raises(ToolError, match="zip bomb"):
        unpack(root, bomb)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_tar_bomb_is_stopped_by_its_ratio_also_when_only_looked_at(root: Path, kind: str) -> None:
    bomb = tar_of((member("zeros"), bytes(8 * MIB)), kind=kind)
    with pytest.raises(ToolError, match="zip bomb"):
        unpack(root, bomb)
    assert "zip bomb" in FileOperations(root).inspect("archive")["archive"]["problem"]


def test_a_bomb_that_declares_little_is_not_believed(root: Path) -> None:
    bomb = bytearray(zip_of(("zeros", bytes(8 * MIB))))
    for header, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", bomb, bomb.index(header) + offset, 100)
    with pytest.raises(ToolError, match="damaged"):
        unpack(root, bytes(bomb))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_the_bytes_that_come_out_are_bounded(root: Path, kind: str) -> None:
    noise = os.urandom(3 * MIB)
    data = zip_of(("noise", noise)) if kind == "zip" else tar_of((member("noise"), noise), kind=kind)
    with pytest.raises(ToolError, match="bytes unpacked"):
        unpack(root, data, ArchiveLimits(total_bytes=2 * MIB))
    assert unpack(root, data, ArchiveLimits(total_bytes=4 * MIB)) == ["noise"]


def test_entries_are_bounded_with_the_folders_that_they_imply(root: Path) -> None:
    limits = ArchiveLimits(entries=10)
    with pytest.raises(ToolError, match="More than 10 entries"):
        unpack(root, zip_of(*((f"{index}.txt", b"") for index in range(11))), limits)
    with pytest.raises(ToolError, match="More than 10 entries"):
        unpack(root, zip_of(*((f"{index}/{index}/{index}.txt", b"") for index in range(4))), limits)
    assert len(unpack(root, zip_of(*((f"{index}.txt", b"") for index in range(10))), limits)) == 10


def test_a_zip_directory_too_large_to_hold_is_refused_before_it_is_read(root: Path) -> None:
    data = zip_of(*((f"{index:0200d}", b"") for index in range(20_000)), compression=zipfile.ZIP_STORED)
    with pytest.raises(ToolError, match="directory is too large"):
        unpack(root, data)


def test_a_tar_header_too_large_to_hold_is_refused(root: Path) -> None:
    info = member("x")
    info.pax_headers = {"comment": "c" * (6 * MIB)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(ToolError, match="header that is too large"):
        unpack(root, out.getvalue())


def test_headers_nested_without_end_are_damage(root: Path) -> None:
    header = member("h", tarfile.XHDTYPE).tobuf()
    with pytest.raises(ToolError, match="damaged"):
        unpack(root, header * 3000 + bytes(1024))


def test_a_sparse_member_is_refused(root: Path) -> None:
    info = member("sparse")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(ToolError, match="special file"):
        unpack(root, out.getvalue())


def test_an_encrypted_zip_is_refused(root: Path) -> None:
    data = bytearray(zip_of(("a", b"a")))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ToolError, match="encrypted"):
        unpack(root, bytes(data))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_decompressor_cannot_be_bounded_is_refused(root: Path, compression: int) -> None:
    with pytest.raises(ToolError, match="other than deflate"):
        unpack(root, zip_of(("a", b"a" * 100), compression=compression))


def test_a_file_that_is_no_archive_is_said_to_be_none(root: Path) -> None:
    with pytest.raises(ToolError, match="not a zip or tar"):
        unpack(root, b"plain text")
    with pytest.raises(ToolError, match="damaged, or is not one"):
        unpack(root, b"\x1f\x8b plain text")


def test_damage_in_the_middle_of_a_tar_is_not_taken_for_its_end(root: Path) -> None:
    data = bytearray(tar_of((member("a"), b"1"), (member("b"), b"2")))
    data[1024 + 148 : 1024 + 156] = b"garbage!"  # the second header's checksum
    with pytest.raises(ToolError, match="damaged"):
        unpack(root, bytes(data))


def test_a_truncated_archive_is_damaged(root: Path) -> None:
    data = os.urandom(100_000)
    with pytest.raises(ToolError, match="damaged"):
        unpack(root, tar_of((member("a"), data), kind="tar.gz")[:50_000])
    with pytest.raises(ToolError, match="damaged"):
        unpack(root, tar_of((member("a"), data))[:50_000])
    with pytest.raises(ToolError, match="damaged"):
        unpack(root, zip_of(("a", data))[:50_000])


def test_inspecting_names_the_first_hundred_entries_and_counts_all(root: Path) -> None:
    data = tar_of(*((member(f"{index}.txt"), b"12345") for index in range(150)), kind="tar.xz")
    (root / "archive").write_bytes(data)
    contents = FileOperations(root).inspect("archive")["archive"]
    assert (contents["format"], contents["entries"], contents["unpacked_bytes"]) == ("tar.xz", 150, 750)
    assert len(contents["names"]) == 100


def archives() -> Iterator[bytes]:
    files: list[tuple[str, bytes]] = [("a.txt", b"hello"), ("b/c.bin", bytes(range(256)) * 4)]
    yield zip_of(*files)
    for kind in TAR_MODES:
        yield tar_of(*((member(name), content) for name, content in files), kind=kind)


ARCHIVES = list(archives())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    def make() -> Path:
        root = tmp_path_factory.mktemp("fuzz") / "root"
        root.mkdir()
        return root

    return make


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from(ARCHIVES),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    cut=st.floats(0.1, 1),
)
def test_no_damage_breaks_out_or_leaves_anything(
    folders: Callable[[], Path], data: bytes, changes: list[tuple[float, int]], cut: float
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    root = folders()
    try:
        unpack(root, bytes(damaged[: int(cut * len(damaged))]))
    except ToolError:
        assert [path.name for path in root.iterdir()] == ["archive"]
    assert [path.name for path in root.parent.iterdir()] == ["root"]
