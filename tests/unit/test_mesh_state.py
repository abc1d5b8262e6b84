import asyncio
import fcntl
import stat
from pathlib import Path

import pytest

from mcp_federation.errors import Conflict, FederationError, InvalidRequest
from mcp_federation.mesh.state import RunningMesh, StateDir, write_private

MESH = RunningMesh(
    nats_url="nats://secret@127.0.0.1:4222",
    edge_url="http://127.0.0.1:8000",
    trusted_keys=("ed25519:x",),
    home="local",
    processes={"nats": 12},
)


async def test_a_second_mesh_on_the_same_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_federation.mesh.state.LOCK_PATIENCE", 0.0)
    async with StateDir(tmp_path).locked():
        with pytest.raises(Conflict, match="already runs"):
            async with StateDir(tmp_path).locked():
                pass


async def test_where_the_mesh_is_that_has_the_directory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_federation.mesh.state.LOCK_PATIENCE", 0.0)
    running = StateDir(tmp_path)
    async with running.locked():
        running.write_mesh(MESH)
        with pytest.raises(Conflict, match=f"already runs on {tmp_path}, at {MESH.edge_url}$"):
            async with StateDir(tmp_path).locked():
                pass


async def test_a_directory_that_is_about_to_be_free_is_waited_for(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        asyncio.get_running_loop().call_later(0.05, fcntl.flock, held, fcntl.LOCK_UN)
        async with StateDir(tmp_path).locked():
            pass


async def test_a_directory_can_be_used_again_after_its_mesh_ended(tmp_path: Path) -> None:
    for _ in range(2):
        async with StateDir(tmp_path / "new" / "state").locked():
            pass
    assert stat.S_IMODE((tmp_path / "new" / "state").stat().st_mode) == 0o700


async def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="cannot keep state in"):
        async with StateDir(tmp_path / "file" / "state").locked():
            pass


def test_the_mesh_file_leads_clients_to_the_mesh_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.write_mesh(MESH)
    assert state.read_mesh() == MESH
    assert stat.S_IMODE((tmp_path / "mesh.json").stat().st_mode) == 0o600


def test_without_a_mesh_the_reader_is_told_how_to_have_one(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.write_mesh(MESH)
    state.forget_mesh()
    state.forget_mesh()
    with pytest.raises(FederationError, match="mcp-federation up"):
        state.read_mesh()


def test_a_mesh_file_that_makes_no_sense_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "mesh.json").write_text("{")
    with pytest.raises(FederationError, match="cannot read"):
        StateDir(tmp_path).read_mesh()


def test_a_private_file_is_replaced_whole_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"one")
    write_private(path, b"two")
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
