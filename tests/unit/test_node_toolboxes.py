"""Python toolboxes: named as module:object, or a folder of modules; a broken one costs only itself."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_federation.errors import InvalidRequest
from mcp_federation.node.servers.config import BrokenSpec
from mcp_federation.node.servers.toolboxes import ToolboxSpec, load_toolboxes

SERVER = "from mcp.server.mcpserver import MCPServer\nserver = MCPServer({name!r})\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("mcp_federation_toolbox_", "box_")):
            del sys.modules[name]


def write(folder: Path, module: str, text: str) -> str:
    (folder / f"{module}.py").write_text(text)
    return str(folder)


def only_reason(*sources: str) -> str:
    (spec,) = load_toolboxes(sources).values()
    assert isinstance(spec, BrokenSpec)
    return spec.reason


def test_a_module_and_an_object_in_it_name_a_toolbox(folder: Path) -> None:
    write(folder, "box_one", SERVER.format(name="one") + "class Kept:\n    inner = server\n")
    for source in ("box_one:server", "box_one:Kept.inner"):
        (name, spec), *more = load_toolboxes([source]).items()
        assert (name, more) == ("one", [])
        assert isinstance(spec, ToolboxSpec)
        assert spec.server.name == "one"


def test_a_callable_makes_the_toolbox(folder: Path) -> None:
    write(folder, "box_two", SERVER.format(name="two") + "def make():\n    return server\n")
    assert isinstance(load_toolboxes(["box_two:make"])["two"], ToolboxSpec)


def test_a_folder_has_a_toolbox_in_each_module(folder: Path) -> None:
    write(folder, "a", SERVER.format(name="first"))
    write(folder, "b", SERVER.format(name="second") + "third = MCPServer('third')\n")
    write(folder, "_private", "raise RuntimeError('nobody imports it')")
    (folder / "notes.txt").write_text("no module")
    found = load_toolboxes([str(folder)])
    assert found.keys() == {"first", "second", "third"}
    assert all(isinstance(spec, ToolboxSpec) for spec in found.values())


def test_modules_of_a_folder_may_have_dataclasses(folder: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: int\n"
    )
    write(folder, "shapes", text + SERVER.format(name="shapes"))
    assert isinstance(load_toolboxes([str(folder)])["shapes"], ToolboxSpec)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def (", "SyntaxError"),
        ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
    ],
)
def test_a_module_that_does_not_load_costs_only_itself(folder: Path, text: str, why: str) -> None:
    write(folder, "broken", text)
    write(folder, "good", SERVER.format(name="good"))
    found = load_toolboxes([str(folder)])
    assert isinstance(found["good"], ToolboxSpec)
    broken = found["broken"]
    assert isinstance(broken, BrokenSpec)
    assert why in broken.reason
    assert not [
        name
        for name in sys.modules
        if name.startswith("mcp_federation_toolbox_") and "broken" in name and why != "no MCPServer object"
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("box_none_such:server", "ModuleNotFoundError"),
        ("box_three:missing", "AttributeError"),
        ("box_three", "module:object"),
        ("box_three:number", "TypeError"),
        ("box_three:takes", "TypeError"),
        (":server", "ValueError"),
    ],
)
def test_a_source_that_names_no_toolbox_says_so(folder: Path, source: str, why: str) -> None:
    write(folder, "box_three", "number = 7\ndef takes(argument):\n    return argument\n")
    assert why in only_reason(source)


def test_two_toolboxes_may_not_share_a_name(folder: Path) -> None:
    write(folder, "a", SERVER.format(name="same"))
    write(folder, "b", SERVER.format(name="same"))
    with pytest.raises(InvalidRequest, match="two servers are called 'same'"):
        load_toolboxes([str(folder)])


def test_a_server_under_two_names_in_its_module_is_one(folder: Path) -> None:
    write(folder, "a", SERVER.format(name="one") + "app = server\n")
    assert load_toolboxes([str(folder)]).keys() == {"one"}
