import base64
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.from_thread import check_cancelled
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox import bundled, file_operations, seed
from mcp_federation.toolbox.archives import ArchiveLimits
from mcp_federation.toolbox.file_operations import FileLimits, FileOperations, make_file_operations
from mcp_federation.toolbox.folder import Folder, split

SECRET = "the secret outside"


def fill(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    root = tmp_path / "root"
    root.mkdir()
    (root / "notes.txt").write_text("héllo wörld")
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "docs" / "a.txt").write_text("a" * 1000)
    (root / "docs" / "deep" / "b.bin").write_bytes(bytes(range(256)))
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / "way_out").symlink_to(outside)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path)


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


async def call(
    root: Path, limits: FileLimits = file_operations.DEFAULT_LIMITS, **arguments: Any
) -> dict[str, Any]:
    async with Client(make_file_operations(root, limits)) as client:
        result = await client.call_tool("file_operations_mcp", arguments)
    if result.is_error:
        text = result.content[0].text  # type: ignore[union-attr]  # errors are text
        assert str(root.parent) not in text
        raise ToolError(text)
    assert result.structured_content is not None
    return dict(result.structured_content)


async def test_the_documented_call_works_on_a_seeded_root(tmp_path: Path) -> None:
    seed(tmp_path)
    async with Client(bundled(tmp_path)["file_operations_mcp"]) as client:
        result = await client.call_tool(
            "file_operations_mcp", {"operation": "inspect", "source_path": "example.txt"}
        )
    assert not result.is_error
    assert result.structured_content is not None
    assert result.structured_content["kind"] == "file"
    assert result.structured_content["encoding"] == "utf-8"


async def test_the_tool_describes_itself_for_agents_and_positional_callers(tmp_path: Path) -> None:
    async with Client(make_file_operations(tmp_path)) as client:
        (tool,) = (await client.list_tools()).tools
        assert client.server_info is not None
        assert client.server_info.version == "1.0.0"
    assert tool.description is not None
    assert tool.description.startswith("File operations tool with archive handling")
    assert list(tool.input_schema["properties"])[:3] == ["operation", "source_path", "target_path"]
    assert all(field.get("description") for field in tool.input_schema["properties"].values())
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint is False
    assert tool.annotations.destructive_hint is False
    assert tool.output_schema is not None
    assert set(tool.output_schema["required"]) == {"operation", "path"}


async def test_inspect_tells_text_from_binary_and_gives_a_digest(root: Path) -> None:
    text = await call(root, operation="inspect", source_path="notes.txt")
    assert (text["encoding"], text["bytes"], text["media_type"]) == ("utf-8", 13, "text/plain")
    assert len(text["sha256"]) == 64
    binary = await call(root, operation="inspect", source_path="docs/deep/b.bin")
    assert binary["encoding"] == "base64"


async def test_inspect_leaves_out_the_digest_of_a_vast_file(root: Path) -> None:
    found = await call(root, FileLimits(hash_bytes=4), operation="inspect", source_path="notes.txt")
    assert "sha256" not in found


async def test_inspect_counts_a_folder_and_describes_a_link_without_following_it(root: Path) -> None:
    folder = await call(root, operation="inspect", source_path="docs")
    assert (folder["kind"], folder["total_entries"]) == ("folder", 2)
    link = await call(root, operation="inspect", source_path="link.txt")
    assert link["kind"] == "link"
    assert "sha256" not in link


async def test_a_file_is_read_in_pages_that_never_cut_a_character(root: Path) -> None:
    (root / "long.txt").write_text("äöü€😀" * 50)
    offset: int | None = 0
    pieces, encodings = "", set()
    while offset is not None:
        page = await call(root, operation="read", source_path="long.txt", offset=offset, limit=7)
        pieces += page["content"]
        encodings.add(page["encoding"])
        offset = page.get("next_offset")
    assert pieces == "äöü€😀" * 50
    assert encodings == {"utf-8"}


async def test_binary_comes_as_base64_and_paging_goes_on(root: Path) -> None:
    offset: int | None = 0
    data = b""
    while offset is not None:
        page = await call(root, operation="read", source_path="docs/deep/b.bin", offset=offset, limit=100)
        piece = page["content"].encode() if page["encoding"] == "utf-8" else base64.b64decode(page["content"])
        data += piece
        offset = page.get("next_offset")
    assert data == bytes(range(256))


async def test_a_page_smaller_than_a_character_comes_as_bytes(root: Path) -> None:
    (root / "one.txt").write_text("€€")
    page = await call(root, operation="read", source_path="one.txt", limit=1)
    assert (page["encoding"], page["next_offset"]) == ("base64", 1)


async def test_reading_past_the_end_gives_nothing(root: Path) -> None:
    page = await call(root, operation="read", source_path="notes.txt", offset=10_000)
    assert page["content"] == ""
    assert "next_offset" not in page


async def test_reads_and_lists_are_bounded_whatever_is_asked(root: Path) -> None:
    limits = FileLimits(read_bytes=10, list_entries=2)
    assert (
        len((await call(root, limits, operation="read", source_path="docs/a.txt", limit=999))["content"])
        == 10
    )
    page = await call(root, limits, operation="list", source_path="", limit=999)
    assert [entry["name"] for entry in page["entries"]] == ["docs", "link.txt"]
    rest = await call(root, limits, operation="list", source_path=".", offset=page["next_offset"])
    assert [(entry["name"], entry["kind"]) for entry in rest["entries"]] == [
        ("notes.txt", "file"),
        ("way_out", "link"),
    ]
    assert "next_offset" not in rest


async def test_a_folder_with_too_many_names_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_federation.toolbox.folder.MAX_NAMES", 2)
    with pytest.raises(ToolError, match="more than 2 entries"):
        await call(root, operation="list", source_path=".")


async def test_names_that_are_not_unicode_and_times_out_of_range_are_listed(root: Path) -> None:
    (root / os.fsdecode(b"odd\xff.txt")).write_text("odd")
    os.utime(root / "notes.txt", (-1, -1))
    page = await call(root, operation="list", source_path=".")
    entries = {entry["name"]: entry for entry in page["entries"]}
    assert r"odd\udcff.txt" in entries
    assert entries["notes.txt"]["modified"] == "1970-01-01T00:00:00+00:00"


async def test_a_name_that_goes_away_while_listing_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Folder.names
    monkeypatch.setattr(Folder, "names", lambda folder: ["gone", *names(folder)])
    page = await call(root, operation="list", source_path="docs")
    assert [entry["name"] for entry in page["entries"]] == ["a.txt", "deep"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../outside/secret.txt", "'..'"),
        ("docs/../../outside/secret.txt", "'..'"),
        ("/etc/passwd", "absolute"),
        ("link.txt", "symbolic link"),
        ("way_out/secret.txt", "symbolic link"),
        ("notes.txt/x", "not a folder"),
        ("docs", "is a folder"),
        ("nowhere.txt", "does not exist"),
        ("x" * 300, "too long"),
        ("a\0b", "NUL"),
        ("/".join("d" * 65), "64 folders deep"),
        (".mcp-staging-1", "keeps for itself"),
    ],
)
async def test_a_path_that_cannot_be_read_says_why(root: Path, path: str, reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        await call(root, operation="read", source_path=path)


def test_a_path_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ToolError, match="not valid Unicode"):
        split("a\ud800")


async def test_pipes_sockets_and_devices_are_not_read(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's path may be short only
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    for name in ("pipe", "socket"):
        assert (await call(root, operation="inspect", source_path=name))["kind"] == "other"
        with pytest.raises(ToolError, match="special file"):
            await call(root, operation="read", source_path=name)


async def test_a_pipe_put_in_place_of_a_checked_file_neither_hangs_nor_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.setattr(Folder, "regular", lambda *_: None)
    with pytest.raises(ToolError, match="special file"):
        await call(root, operation="read", source_path="pipe")


def test_a_file_swapped_for_a_link_again_and_again_never_shows_what_is_outside(root: Path) -> None:
    operations = FileOperations(root)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "staged").symlink_to(root.parent / "outside" / "secret.txt")
            (root / "staged").replace(root / "swapped")
            (root / "staged").write_text("inside")
            (root / "staged").replace(root / "swapped")

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(500):
            try:
                seen.add(operations.read("swapped", 0, None)["content"])
            except ToolError:
                seen.add("refused")
    finally:
        stop.set()
        swapper.join()
    assert seen <= {"inside", "refused"}


def test_a_folder_swapped_for_a_link_again_and_again_never_leads_out(root: Path) -> None:
    operations = FileOperations(root)
    (root / "real").mkdir()
    (root / "real" / "secret.txt").write_text("inside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "real").rename(root / "way")
            (root / "way").rename(root / "real")
            (root / "way").symlink_to(root.parent / "outside")
            (root / "way").unlink()

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(500):
            try:
                seen.add(operations.read("way/secret.txt", 0, None)["content"])
            except ToolError:
                seen.add("inside")
    finally:
        stop.set()
        swapper.join()
    assert seen == {"inside"}


COMPONENTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "docs",
        "deep",
        "way_out",
        "link.txt",
        "secret.txt",
        "outside",
        "root",
        "~",
        "\\",
        "C:",
        "%2e%2e",
    ]
) | st.text(max_size=4)


@pytest.fixture(scope="module")
def standing_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("standing"))


@settings(deadline=None)
@given(
    parts=st.lists(COMPONENTS, max_size=6), operation=st.sampled_from(["inspect", "read", "list", "unpack"])
)
def test_no_path_leads_out_and_no_error_shows_where_the_root_is(
    standing_root: Path, parts: list[str], operation: str
) -> None:
    operations = FileOperations(standing_root)
    path = "/".join(parts)
    before = everything(standing_root.parent)
    try:
        match operation:
            case "inspect":
                shown = str(operations.inspect(path))
            case "read":
                shown = str(operations.read(path, 0, None))
            case "list":
                shown = str(operations.list(path, 0, None))
            case _:
                shown = str(operations.unpack(path, ""))
    except ToolError as error:
        shown = str(error)
    assert SECRET not in shown
    assert str(standing_root.parent) not in shown
    assert everything(standing_root.parent) == before


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


async def test_a_missing_root_is_said_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="folder is missing"):
        await call(tmp_path / "absent", operation="list", source_path=".")


async def test_wrong_arguments_are_a_tool_error(root: Path) -> None:
    wrong: list[dict[str, Any]] = [{"operation": "delete", "source_path": "x"}, {"operation": "read"}]
    for arguments in wrong:
        with pytest.raises(ToolError, match="validation error"):
            await call(root, **arguments)


async def test_the_module_server_takes_its_root_from_the_environment_when_it_is_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_FEDERATION_TOOLBOX_ROOT", str(root))
    file_operations._server.cache_clear()
    try:
        async with Client(file_operations.server) as client:
            result = await client.call_tool(
                "file_operations_mcp", {"operation": "inspect", "source_path": "notes.txt"}
            )
        assert file_operations.server is file_operations.server
    finally:
        file_operations._server.cache_clear()
    assert not result.is_error
    with pytest.raises(AttributeError, match="no attribute 'client'"):
        _ = file_operations.client
