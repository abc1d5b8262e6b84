import sys
from pathlib import Path

import pytest

from mcp_federation.mesh.state import StateDir
from mcp_federation.mesh.topology import (
    BUNDLED,
    TOOLBOX_ROOT,
    Commands,
    base_environment,
    demo_topology,
    local_topology,
)
from mcp_federation.settings import Settings, load_settings

TOKEN = "s3cret"
NATS = "nats://n4ts@127.0.0.1:4222"


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


def commands(state: StateDir, settings: Settings) -> Commands:
    return Commands(settings, state, NATS, base_environment())


def test_without_a_demo_there_is_one_node_with_the_toolbox_and_the_users_servers(tmp_path: Path) -> None:
    settings = load_settings(config=tmp_path / "servers.json", toolboxes=("mine:server",), node="acme")
    (node,) = local_topology(settings).nodes
    assert node.name == "acme"
    assert node.config == tmp_path / "servers.json"
    assert node.toolboxes == (*BUNDLED, "mine:server")


def test_the_demo_has_three_organisations_and_its_home_keeps_the_users_servers(tmp_path: Path) -> None:
    topology = demo_topology(
        load_settings(config=Path("servers.json")), tmp_path / "globex.json", tmp_path / "initech.json"
    )
    assert [node.name for node in topology.nodes] == ["acme", "globex", "initech"]
    assert topology.home == "acme"
    assert topology.nodes[0].config == Path("servers.json").absolute()
    assert topology.nodes[1].config == tmp_path / "globex.json"


def test_secrets_stand_in_the_environment_of_who_needs_them_and_on_no_command_line(state: StateDir) -> None:
    settings = load_settings(token=TOKEN)
    make = commands(state, settings)
    node = make.node(local_topology(settings).nodes[0], "ed25519:x")
    edge = make.edge("local", 8000, "ed25519:x")
    everyone = [make.governance(), make.metrics(), node, edge]
    for command in everyone:
        assert command.env["MCP_FEDERATION_NATS_URL"] == NATS
        assert not any(TOKEN in word or "n4ts" in word for word in command.argv)
    assert edge.env["MCP_FEDERATION_TOKEN"] == TOKEN
    assert [TOKEN in command.env.values() for command in everyone] == [False, False, False, True]


def test_a_process_is_the_command_that_a_user_would_start(state: StateDir) -> None:
    settings = load_settings(host="0.0.0.0", heartbeat=1)
    edge = commands(state, settings).edge("acme", 8123, "ed25519:x")
    assert edge.argv[0] == sys.executable
    assert edge.argv[-3:] == ("edge", "--port", "8123")
    told = {name: value for name, value in edge.env.items() if name.startswith("MCP_FEDERATION_")}
    assert told == {
        "MCP_FEDERATION_HOST": "0.0.0.0",
        "MCP_FEDERATION_LOG_LEVEL": "info",
        "MCP_FEDERATION_NATS_URL": NATS,
        "MCP_FEDERATION_NODE": "acme",
        "MCP_FEDERATION_NODES": "",
        "MCP_FEDERATION_PORT": "8123",
        "MCP_FEDERATION_SHARING": "records",
        "MCP_FEDERATION_STATE_DIR": str(state.root / "edge"),
        "MCP_FEDERATION_TRUSTED_KEYS": "ed25519:x",
    }


def test_what_a_process_is_told_reads_back_as_its_settings(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = load_settings(config=tmp_path / "servers.json")
    node = commands(state, settings).node(local_topology(settings).nodes[0], "ed25519:x")
    for name, value in node.env.items():
        monkeypatch.setenv(name, value)
    read = load_settings()
    assert (read.node, read.config, read.toolboxes) == ("local", tmp_path / "servers.json", BUNDLED)
    assert (read.nats_url, read.trusted_keys) == (NATS, ("ed25519:x",))
    assert read.state_dir == state.root / "node-local"
    assert node.env[TOOLBOX_ROOT] == str(state.files)


def test_a_mesh_of_one_owner_shares_records_unless_told_otherwise(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sharing() -> str | None:
        settings = load_settings()
        made = Commands(settings, state, NATS, base_environment())
        return made.edge("acme", 1, "").env.get("MCP_FEDERATION_SHARING")

    assert sharing() == "records"
    monkeypatch.setenv("MCP_FEDERATION_SHARING", "nothing")
    assert sharing() == "nothing"


def test_children_inherit_what_tunes_them_and_not_what_this_process_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TOKEN", "CONFIG", "NATS_URL", "HEARTBEAT"):
        monkeypatch.setenv(f"MCP_FEDERATION_{name}", "1")
    environment = base_environment()
    assert [name for name in environment if name.startswith("MCP_FEDERATION_")] == [
        "MCP_FEDERATION_HEARTBEAT"
    ]
