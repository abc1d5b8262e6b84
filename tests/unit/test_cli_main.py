import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mcp_federation.cli.main import main
from mcp_federation.mesh.state import RunningMesh, StateDir
from mcp_federation.version import VERSION


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """A command sends the logs of its process to a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def one_line(error: str) -> str:
    assert error.startswith("mcp-federation: ")
    assert error.count("\n") == 1
    return error.removeprefix("mcp-federation: ").strip()


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"mcp-federation {VERSION}\n", "")


@pytest.mark.parametrize(
    "command", ["up", "node", "governance", "metrics", "edge", "discover", "recommend", "call"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"mcp-federation {command}" in out


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    code = (
        "import sys\nfrom mcp_federation.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(','.join(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert not {"nats", "mcp", "fastapi", "pydantic_settings", "aiohttp", "cryptography"} & set(
        loaded.strip().split(",")
    )


@pytest.mark.parametrize(
    "argv",
    [
        ("fly",),
        ("call",),
        ("call", "tool", "word"),
        ("call", "tool", "--args", "[1]"),
        ("call", "tool", "--timeout", "0"),
        ("up", "--port", "70000"),
        ("up", "--unknown"),
    ],
)
def test_wrong_usage_ends_with_code_2(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert error


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("node", "--name", "No Name"), "node"),
        (("governance", "--log-level", "loud"), "log_level"),
        (("discover", "--nats", "nats://127.0.0.1:1"), "--trust"),
        (("call", "tool", "--nats", "nats://127.0.0.1:1", "--trust", "ed25519:no"), "no governance key"),
    ],
)
def test_a_setting_that_does_not_fit_is_one_line(
    argv: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, *argv)
    assert code == 1
    assert said in one_line(error)


def test_without_a_mesh_a_client_says_how_to_have_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, "discover", "--state-dir", str(tmp_path))
    assert code == 1
    assert "mcp-federation up" in one_line(error)


def test_a_mesh_that_is_gone_is_one_line_without_its_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = "ed25519:" + "A" * 42 + "A="
    StateDir(tmp_path).write_mesh(
        RunningMesh(
            nats_url=f"nats://s3cret@127.0.0.1:{port}", edge_url="", trusted_keys=(key,), home="local"
        )
    )
    monkeypatch.setattr("mcp_federation.bus.nats.CONNECT_TIMEOUT", 0.1)
    code, _, error = run(capsys, "discover", "--state-dir", str(tmp_path))
    assert code == 1
    assert "no NATS server answers" in one_line(error)
    assert "s3cret" not in error


def test_a_bad_config_is_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "servers.json"
    config.write_text('{"mcpServers": [')
    code, _, error = run(capsys, "up", "--config", str(config), "--state-dir", str(tmp_path / "state"))
    assert code == 1
    assert "servers.json" in one_line(error)
    assert not (tmp_path / "state").exists()


def test_a_taken_port_is_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, error = run(capsys, "up", "--port", str(port), "--state-dir", str(tmp_path / "state"))
    assert code == 1
    assert one_line(error) == f"port {port} is taken: choose another with --port"
    assert not (tmp_path / "state").exists()


def test_a_missing_nats_server_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = run(capsys, "up", "--port", "0", "--state-dir", str(tmp_path / "state"))
    assert code == 1
    assert "nats-server" in one_line(error)


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mcp_federation.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == f"mcp-federation {VERSION}"


def test_up_takes_a_config_and_toolboxes_as_a_node_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def run_up(**overrides: object) -> int:
        given.update(overrides)
        return 0

    monkeypatch.setattr("mcp_federation.cli.processes.run_up", run_up)
    argv = ("up", "--config", "servers.json", "--toolbox", "tools", "--toolbox", "weather:server")
    assert run(capsys, *argv)[0] == 0
    assert (given["config"], given["toolboxes"]) == (Path("servers.json"), ("tools", "weather:server"))
