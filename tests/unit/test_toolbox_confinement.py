import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox.file_operations import FileOperations
from mcp_federation.toolbox.folder import Folder, split
from tests.support.shared_folder import SECRET, call, everything, fill


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path)


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


def read_while(swap: Callable[[], None], root: Path, path: str) -> set[str]:
    """What is read there, or `refused`, while a thread goes on swapping."""
    operations, stop = FileOperations(root), threading.Event()
    seen: set[str] = set()

    def go_on() -> None:
        while not stop.is_set():
            swap()

    swapper = threading.Thread(target=go_on)
    swapper.start()
    try:
        for _ in range(500):
            try:
                seen.add(operations.read(path, 0, None)["content"])
            except ToolError:
                seen.add("refused")
    finally:
        stop.set()
        swapper.join()
    return seen


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
    def swap() -> None:
        (root / "staged").symlink_to(root.parent / "outside" / "secret.txt")
        (root / "staged").replace(root / "swapped")
        (root / "staged").write_text("inside")
        (root / "staged").replace(root / "swapped")

    assert read_while(swap, root, "swapped") <= {"inside", "refused"}


def test_a_folder_swapped_for_a_link_again_and_again_never_leads_out(root: Path) -> None:
    (root / "real").mkdir()
    (root / "real" / "secret.txt").write_text("inside")

    def swap() -> None:
        (root / "real").rename(root / "way")
        (root / "way").rename(root / "real")
        (root / "way").symlink_to(root.parent / "outside")
        (root / "way").unlink()

    assert read_while(swap, root, "way/secret.txt") <= {"inside", "refused"}


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
