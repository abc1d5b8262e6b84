"""A folder for the toolbox to work in, beside one that it must not reach, and calls of its file tool."""

from pathlib import Path
from typing import Any

from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox import file_operations
from mcp_federation.toolbox.file_operations import FileLimits, make_file_operations

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
