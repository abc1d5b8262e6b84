"""How the sets are read that measure and are never learned from: a function a set."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from scripts.training_readers import Written, described, lines, read

ACEBENCH = (
    *("atom_bool", "atom_enum", "atom_list", "atom_number", "atom_object_deep", "atom_object_short"),
    *("preference", "similar_api", "single_turn_parallel_function", "single_turn_single_function"),
)
_PROMPT = re.compile(r"^\| ([\w-]+) \| (.+?) \| [\w-]+ \|$", re.MULTILINE)
_COMMAND = re.compile(
    r"\[CommandMetadata\((.*?)\)\]\s*public\s+(?:sealed |abstract |partial )*class (\w+)", re.DOTALL
)
_NAME = re.compile(r'Name\s*=\s*"([^"]+)"')
_RAW_TEXT = re.compile(r'Description\s*=\s*"""(.*?)"""', re.DOTALL)
_TEXT = re.compile(r'Description\s*=\s*((?:"(?:[^"\\]|\\.)*"\s*\+?\s*)+)')


def acebench(folder: Path) -> Written:
    """First turns of conversations, and the functions that answer them, among those of all conversations."""
    found, data = Written(), folder / "data_all/data_en"
    for part in ACEBENCH:
        file = f"data_normal_{part}.json"
        answers = {row["id"]: row["ground_truth"] for row in lines(data / "possible_answer" / file)}
        for row in lines(data / file):
            keys = {
                function["name"]: (function["name"], function["description"]) for function in row["function"]
            }
            for function in row["function"]:
                schema = function.get("parameters") or function.get("arguments") or {}
                parameters = described(schema.get("properties", {}))
                key = keys[function["name"]]
                found.tool(key, function["name"], "", function["description"], parameters)
            answer = answers[row["id"]]
            called = [name for calls in (answer if isinstance(answer, list) else [answer]) for name in calls]
            named = [name if name in keys else re.sub(r"_\d+$", "", name) for name in called]
            asked = row["question"].partition("\nsystem:")[0].removeprefix("user:")
            found.request(asked, [keys[name] for name in named if name in keys])
    return found


def ultratool(folder: Path) -> Written:
    """What people want done in daily life, and the tools of its plan."""
    found = Written()
    rows = list(lines(folder / "data/English-dataset/test.json"))
    for row in rows:
        for tool in row["tools"]:
            parameters = described((tool.get("arguments") or {}).get("properties") or {})
            found.tool(tool["name"], tool["name"], "", tool["description"], parameters)
        found.request(row["question"], [tool["name"] for tool in row["tools"]])
    return found


def tooltalk(folder: Path) -> Written:
    """What is said to an assistant in conversations, and the functions that it calls at once."""
    found = Written()
    for path in sorted((folder / "src/tooltalk/apis").glob("*.py")):
        for name, about in _classes(path):
            if {"description", "parameters"} <= about.keys():
                found.tool(name, name, path.stem, about["description"], described(about["parameters"]))
    for path in sorted((folder / "data").glob("*/*.json")):
        turns = read(path).get("conversation", [])
        for said, done in pairwise(turns):
            if said["role"] == "user":
                found.request(said["text"], (call["request"]["api_name"] for call in done.get("apis", [])))
    return found


def _classes(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The classes of a file of Python, with the literals that they give names to."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            about = {}
            for line in node.body:
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                    try:
                        about[line.targets[0].id] = ast.literal_eval(line.value)
                    except ValueError:
                        continue
            yield node.name, about


def azure_mcp(folder: Path) -> Written:
    """The tools of Azure's MCP server and the prompts that test which of them is chosen."""
    found, commands = Written(), _commands(folder)
    for path in sorted(folder.glob("**/src/**/*Setup.cs")):
        code = path.read_text(encoding="utf-8-sig")
        groups = _groups(code)
        for group, command in re.findall(r"(\w+)\.AddCommand<(?:[\w.]+\.)?(\w+)>", code):
            about = commands.get((_project(path), command))
            if about and group in groups:
                name = f"{groups[group]}_{about[0]}"
                found.tool(name, name, "Azure MCP Server", about[1], {})
    prompts = (folder / "servers/Azure.Mcp.Server/docs/e2eTestPrompts.md").read_text(encoding="utf-8")
    for name, text in _PROMPT.findall(prompts):
        found.request(text.replace("\\", ""), [name])
    return found


def _commands(folder: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Name and description of the commands, by project and class."""
    found = {}
    for path in folder.glob("**/src/**/*Command.cs"):
        for metadata, command in _COMMAND.findall(path.read_text(encoding="utf-8-sig")):
            name, raw, text = _NAME.search(metadata), _RAW_TEXT.search(metadata), _TEXT.search(metadata)
            if name and (raw or text):
                parts = [raw[1]] if raw else re.findall(r'"((?:[^"\\]|\\.)*)"', text[1] if text else "")
                found[_project(path), command] = (name[1], " ".join("".join(parts).split()))
    return found


def _groups(code: str) -> dict[str, str]:
    """The full names of a project's groups of commands, by their variables."""
    root = re.search(r'string Name => "([^"]+)"', code)
    own = {
        variable: root[1] if name == "Name" and root else name.strip('"')
        for variable, name in re.findall(r'var (\w+) = new CommandGroup\(\s*(Name|"[^"]+")', code)
    }
    above = {below: group for group, below in re.findall(r"(\w+)\.AddSubGroup\((\w+)\)", code)}
    found = {}
    for variable in own:
        names, at = [own[variable]], variable
        while at in above:
            at = above[at]
            names.insert(0, own[at])
        found[variable] = "_".join(names)
    return found


def _project(path: Path) -> str:
    return path.as_posix().partition("/src/")[0]
