import base64
import os
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox import bundled, file_operations, seed
from mcp_federation.toolbox.file_operations import FileLimits, make_file_operations
from mcp_federation.toolbox.folder import Folder
from tests.support.shared_folder import call, fill


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path)


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
