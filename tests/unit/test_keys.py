"""Keys: one whole key, kept from others, however many start at once."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.errors import InvalidRequest
from mcp_federation.trust.keys import load_or_create_key, parse_trusted_key, read_trusted_keys, trusted

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def raw(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes_raw()


def keep(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "governance.key"
    key = load_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert raw(load_or_create_key(path)) == raw(key)
    assert list(path.parent.iterdir()) == [path]


def test_a_wide_umask_opens_the_key_to_nobody(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_many_that_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    barrier = Barrier(8)

    def create(_: int) -> bytes:
        barrier.wait(10)
        return raw(load_or_create_key(tmp_path / "key"))

    for number in range(10):
        (tmp_path / "key").unlink(missing_ok=True)
        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(create, range(8)))
        assert len(keys) == 1, f"round {number}"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o644, 0o777])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "governance.key"
    load_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(InvalidRequest, match=r"governance\.key may be read by others") as refused:
        load_or_create_key(path)
    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_without_a_key_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = keep(tmp_path / "key", content)
    with pytest.raises(InvalidRequest):
        load_or_create_key(path)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_or_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    other = x25519.X25519PrivateKey.generate().private_bytes(PEM, PKCS8, serialization.NoEncryption())
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        PEM, PKCS8, serialization.BestAvailableEncryption(b"passphrase")
    )
    for content in (other, locked):
        with pytest.raises(InvalidRequest):
            load_or_create_key(keep(tmp_path / "key", content))


def test_a_place_where_no_key_can_be_kept_is_refused_by_name_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="cannot keep the private key") as refused:
        load_or_create_key(tmp_path / "file" / "key")
    assert str(tmp_path) not in refused.value.message


def test_a_draft_that_a_crash_left_behind_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / f".key.{os.getpid()}").touch()
    assert raw(load_or_create_key(tmp_path / "key")) == raw(load_or_create_key(tmp_path / "key"))


def test_a_public_key_comes_back_from_its_text() -> None:
    key = trusted(ed25519.Ed25519PrivateKey.generate().public_key())
    again = parse_trusted_key(str(key))
    assert (again.key_id, str(again)) == (key.key_id, str(key))
    assert len(key.key_id) == 16


@given(st.text() | st.text().map("ed25519:".__add__))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_trusted_key(text)


def test_trusted_keys_are_read_from_texts_and_from_files_with_comments(tmp_path: Path) -> None:
    one, two, three = (trusted(ed25519.Ed25519PrivateKey.generate().public_key()) for _ in range(3))
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{two}\n\n   # theirs, indented\n  {three}  \n")
    assert [str(key) for key in read_trusted_keys([str(one), str(file)])] == [str(one), str(two), str(three)]
    assert read_trusted_keys([]) == ()


def test_a_source_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "nonsense").write_text("ed25519:AAAA")
    for name in ("missing", "binary", "nonsense", "."):
        with pytest.raises(InvalidRequest):
            read_trusted_keys([str(tmp_path / name)])
