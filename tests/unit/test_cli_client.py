from pathlib import Path

import pytest

from mcp_federation.cli.client import find_mesh
from mcp_federation.errors import InvalidRequest
from mcp_federation.mesh.state import RunningMesh, StateDir
from mcp_federation.settings import load_settings

MESH = RunningMesh(nats_url="nats://127.0.0.1:1", edge_url="", trusted_keys=("ed25519:mesh",), home="acme")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    StateDir(tmp_path).write_mesh(MESH)
    return tmp_path


def test_the_mesh_that_runs_on_the_state_directory_is_found(state: Path) -> None:
    assert find_mesh(load_settings(state_dir=state)) == MESH


def test_a_key_that_is_named_is_trusted_instead_of_the_mesh_s_own(state: Path) -> None:
    found = find_mesh(load_settings(state_dir=state, trusted_keys=("ed25519:mine",)))
    assert (found.nats_url, found.trusted_keys) == (MESH.nats_url, ("ed25519:mine",))


def test_a_mesh_that_is_named_goes_before_the_one_that_runs_here(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_FEDERATION_NATS_URL", "nats://far:4222")
    found = find_mesh(load_settings(state_dir=state, trusted_keys=("ed25519:far",), node="acme"))
    assert (found.nats_url, found.trusted_keys, found.home) == ("nats://far:4222", ("ed25519:far",), "acme")


def test_a_mesh_is_not_believed_without_a_key_to_trust(state: Path) -> None:
    with pytest.raises(InvalidRequest, match="--trust"):
        find_mesh(load_settings(state_dir=state, nats_url="nats://far:4222"))
