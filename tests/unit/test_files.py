"""Files: a reader finds the old one or the new one, and a failure leaves nothing behind."""

from pathlib import Path

import pytest

from mcp_federation.files import write_whole


def test_a_file_is_replaced_by_all_of_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "index"
    write_whole(path, b"old")
    write_whole(path, b"ne", b"w")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_its_owner_s_alone_unless_told_otherwise(tmp_path: Path) -> None:
    write_whole(tmp_path / "key", b"secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
