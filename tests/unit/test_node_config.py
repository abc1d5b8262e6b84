"""The `mcpServers` file: the ecosystem's own files work unchanged, and a bad entry costs only itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcp_federation.errors import InvalidRequest
from mcp_federation.node.app import read_specs
from mcp_federation.node.servers import config
from mcp_federation.node.servers.config import BrokenSpec, HttpSpec, StdioSpec, load_config
from mcp_federation.node.servers.faults import Ended
from mcp_federation.node.servers.from_files import read_values
from mcp_federation.settings import load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mcp.json"


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def entries(file: Path, **servers: Any) -> dict[str, Any]:
    return dict(load_config(write(file, json.dumps({"mcpServers": servers}))))


def only(file: Path, entry: Any) -> Any:
    return entries(file, one=entry)["one"]


def test_a_file_of_claude_desktop(file: Path) -> None:
    text = """{
      "globalShortcut": "Ctrl+Space",
      "mcpServers": {
        "filesystem": {
          "command": "npx",
          "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/me/Desktop"],
          "env": {"LOG_LEVEL": "debug"}
        }
      }
    }"""
    args = ("-y", "@modelcontextprotocol/server-filesystem", "/home/me/Desktop")
    assert load_config(write(file, text)) == {"filesystem": StdioSpec("npx", args, {"LOG_LEVEL": "debug"})}


def test_a_file_of_vs_code_with_comments_and_trailing_commas(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "t0ken")
    text = """{
      // Shared with the team
      "inputs": [],
      "servers": {
        "github": {
          "type": "http",
          "url": "https://api.example/mcp", /* streamable HTTP */
          "headers": {"Authorization": "Bearer ${env:MY_TOKEN}"},
        },
        "time": {"type": "stdio", "command": "uvx", "args": ["server",], "cwd": "${workspaceFolder}"},
      },
    }"""
    assert load_config(write(file, text)) == {
        "github": HttpSpec("https://api.example/mcp", {"Authorization": "Bearer t0ken"}),
        "time": StdioSpec("uvx", ("server",), cwd=str(file.parent)),
    }


@pytest.mark.parametrize("entry", [{"command": "run"}, {"url": "http://127.0.0.1/mcp"}])
def test_a_server_may_bound_its_calls_at_once(file: Path, entry: dict[str, str]) -> None:
    assert only(file, {**entry, "maxConcurrency": 2}).max_concurrency == 2
    assert only(file, entry).max_concurrency is None
    assert isinstance(only(file, {**entry, "maxConcurrency": 0}), BrokenSpec)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A_VARIABLE}", "a value"),
        ("${env:A_VARIABLE}", "a value"),
        ("<${A_VARIABLE}/${A_VARIABLE}>", "<a value/a value>"),
        ("${NOT_SET:-something else}", "something else"),
        ("${env:NOT_SET:-}", ""),
        ("${A_VARIABLE:-unused}", "a value"),
        ("${userHome}${pathSeparator}x${/}y", f"{Path.home()}/x/y"),
        ("${workspaceFolderBasename}", "project"),
        ("$A_VARIABLE and {A_VARIABLE} and ${}", "$A_VARIABLE and {A_VARIABLE} and ${}"),
    ],
)
def test_variables_are_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, value: str
) -> None:
    monkeypatch.setenv("A_VARIABLE", "a value")
    monkeypatch.delenv("NOT_SET", raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    spec = only(folder / "mcp.json", {"command": "run", "args": [text], "env": {"X": text}, "cwd": text})
    assert (spec.args, spec.env) == ((value,), {"X": value})
    spec = only(folder / "mcp.json", {"url": f"http://{text}", "headers": {"X": text}})
    assert (spec.url, spec.headers) == (f"http://{value}", {"X": value})


def test_what_a_variable_holds_is_not_expanded_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "${INNER}")
    assert only(file, {"command": "${OUTER}"}) == StdioSpec("${INNER}")


def test_what_a_file_holds_is_read_when_it_is_needed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEME", "Bearer ${file:not/this}")
    spec = only(file, {"url": "https://a/mcp", "headers": {"A": "${SCHEME} ${file:run/token}!", "B": "b"}})
    with pytest.raises(Ended, match="'token'"):
        read_values(spec.headers)
    (file.parent / "run").mkdir()
    for token in ("first", "second"):
        (file.parent / "run" / "token").write_text(f" {token}\n")
        assert read_values(spec.headers) == {"A": f"Bearer ${{file:not/this}} {token}!", "B": "b"}
    spec = only(file, {"command": "run", "env": {"TOKEN": f"${{file:{file.parent}/run/token}}"}})
    assert read_values(spec.env) == {"TOKEN": "second"}
    (file.parent / "run" / "token").write_bytes(b"\xff")
    with pytest.raises(Ended, match="it is no text"):
        read_values(spec.env)


@pytest.mark.parametrize(
    "entry", [{"command": "${file:x}"}, {"command": "x", "args": ["${file:x}"]}, {"url": "http://${file:x}"}]
)
def test_a_file_stands_for_a_login_and_for_nothing_else(file: Path, entry: Any) -> None:
    assert "file:x" in only(file, entry).reason


def test_an_entry_with_a_variable_that_is_not_set_costs_only_itself(file: Path) -> None:
    found = entries(file, bad={"command": "x", "args": ["${NOT_SET_ANYWHERE}"]}, good={"command": "y"})
    assert found["good"] == StdioSpec("y")
    assert "NOT_SET_ANYWHERE" in found["bad"].reason


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"url": "https://a/mcp"}, HttpSpec("https://a/mcp")),
        ({"serverUrl": "https://a/mcp"}, HttpSpec("https://a/mcp")),
        ({"type": "streamable-http", "url": "https://a/mcp"}, HttpSpec("https://a/mcp")),
        ({"type": "sse", "url": "https://a/sse"}, HttpSpec("https://a/sse", transport="sse")),
        ({"command": "x", "alwaysAllow": ["a"], "timeout": 60}, StdioSpec("x")),
        ({"command": "x", "args": ["--port", 80, 0.5]}, StdioSpec("x", ("--port", "80", "0.5"))),
        (
            {"command": "x", "env": {"N": 1, "B": True, "F": False, "NONE": None}},
            StdioSpec("x", env={"N": "1", "B": "true", "F": "false"}),
        ),
        ({"command": "x", "disabled": False}, StdioSpec("x")),
    ],
)
def test_what_editors_write_is_understood(file: Path, entry: Any, expected: Any) -> None:
    assert only(file, entry) == expected


def test_a_disabled_server_is_left_out(file: Path) -> None:
    assert entries(file, off={"command": "x", "disabled": True}) == {}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        "npx",
        [],
        {},
        {"command": ""},
        {"command": None},
        {"command": ["npx", "-y"]},
        {"command": "x", "args": "-y"},
        {"command": "x", "args": [["-y"]]},
        {"command": "x", "env": {"A": {}}},
        {"url": ""},
        {"url": 7},
        {"url": "ftp://a"},
        {"url": "a/mcp"},
        {"url": "https://a", "headers": {"X": 1}},
        {"disabled": "yes"},
    ],
)
def test_an_entry_that_makes_no_sense_costs_only_itself(file: Path, entry: Any) -> None:
    found = entries(file, bad=entry, good={"command": "y"})
    assert found["good"] == StdioSpec("y")
    assert isinstance(found["bad"], BrokenSpec)
    assert found["bad"].reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "not json",
        "[]",
        "7",
        "null",
        "{}",
        '{"mcpServers": []}',
        '{"mcpServers": null}',
        '{"servers": 1}',
    ],
)
def test_a_file_that_is_none_is_refused_by_name(file: Path, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"mcp\.json"):
        load_config(write(file, text))


def test_a_file_that_is_not_there_is_refused(file: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        load_config(file)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="directory"):
        load_config(tmp_path)


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b'{"mcpServers": {"\xff": {}}}')
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        load_config(file)


def test_a_byte_order_mark_is_skipped(file: Path) -> None:
    file.write_text('{"mcpServers": {"a": {"command": "x"}}}', encoding="utf-8-sig")
    assert load_config(file) == {"a": StdioSpec("x")}


def test_a_file_that_is_too_large_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MAX_CONFIG_BYTES", 10)
    with pytest.raises(InvalidRequest, match="over 10 bytes"):
        load_config(write(file, '{"mcpServers": {}}'))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"mcpServers": {"a": ' + "[" * 100_000])
def test_a_file_that_nests_too_deeply_is_refused(file: Path, text: str) -> None:
    with pytest.raises(InvalidRequest):
        load_config(write(file, text))


def test_a_name_that_is_no_unicode_is_refused(file: Path) -> None:
    with pytest.raises(InvalidRequest):
        load_config(write(file, r'{"mcpServers": {"\ud800": {"command": "x"}}}'))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("command", "args", "env", "cwd", "url", "serverUrl", "headers", "type", "disabled")
ENTRY = st.dictionaries(st.sampled_from(FIELDS), ANY_JSON | st.just("${X}") | st.just("x"), max_size=6)
DOCUMENT = st.fixed_dictionaries(
    {"mcpServers": st.dictionaries(st.text(max_size=5), ENTRY | ANY_JSON, max_size=4)}
)
UNHURRIED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@UNHURRIED
@given(document=ANY_JSON | DOCUMENT)
@example(document={"mcpServers": {"": {"command": "\ud800"}}})
@example(document={"mcpServers": {"a": {"command": "x", "args": [10**400]}}})
def test_any_json_is_read_or_refused(tmp_path: Path, document: Any) -> None:
    try:
        found = load_config(write(tmp_path / "mcp.json", json.dumps(document)))
    except InvalidRequest:
        return
    for name, spec in found.items():
        assert name.encode().decode() == name
        assert isinstance(spec, StdioSpec | HttpSpec | BrokenSpec)


@UNHURRIED
@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(data)
    with pytest.raises(InvalidRequest):
        load_config(path)


def test_servers_of_the_file_and_toolboxes_stand_side_by_side(file: Path) -> None:
    write(file, '{"mcpServers": {"time": {"command": "x"}}}')
    chosen = load_settings(config=file, toolboxes=("mcp_federation.toolbox.file_operations:server",))
    assert read_specs(chosen).keys() == {"time", "file_operations_mcp"}


def test_a_toolbox_may_not_have_the_name_of_a_server(file: Path) -> None:
    write(file, '{"mcpServers": {"file_operations_mcp": {"command": "x"}}}')
    chosen = load_settings(config=file, toolboxes=("mcp_federation.toolbox.file_operations:server",))
    with pytest.raises(InvalidRequest, match="two servers are called 'file_operations_mcp'"):
        read_specs(chosen)


def test_a_node_may_have_no_servers() -> None:
    assert read_specs(load_settings()) == {}
