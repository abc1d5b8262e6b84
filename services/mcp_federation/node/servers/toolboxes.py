"""Loads Python toolboxes: `MCPServer` objects in a module, or in the modules of a folder.

A module that cannot be loaded costs only its own tools.
"""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from mcp.server.mcpserver import MCPServer

from mcp_federation.errors import InvalidRequest
from mcp_federation.logs import get_logger
from mcp_federation.node.servers.config import BrokenSpec

log = get_logger("node")


@dataclass(frozen=True)
class ToolboxSpec:
    """A Python toolbox, run inside the node's process."""

    server: MCPServer[Any]


def load_toolboxes(sources: Iterable[str]) -> dict[str, ToolboxSpec | BrokenSpec]:
    """The toolboxes behind `module:object` or folder paths, by the name of each server.

    The object is an `MCPServer`, or a callable without arguments that returns one.

    Raises:
        InvalidRequest: two servers share a name.
    """
    found: dict[str, ToolboxSpec | BrokenSpec] = {}
    for source in sources:
        folder = Path(source)
        if folder.is_dir():
            for path in sorted(folder.glob("[!_]*.py")):
                _add(found, _load(path.stem, partial(_servers_in_file, path)))
        else:
            _add(found, _load(source, partial(_import_object, source)))
    return found


def _add(
    found: dict[str, ToolboxSpec | BrokenSpec], loaded: Iterable[tuple[str, ToolboxSpec | BrokenSpec]]
) -> None:
    for name, spec in loaded:
        # Modules may import each other's servers.
        if found.setdefault(name, spec) != spec:
            raise InvalidRequest(f"two servers are called {name!r}")


def _load(
    source: str, load: Callable[[], list[MCPServer[Any]]]
) -> list[tuple[str, ToolboxSpec | BrokenSpec]]:
    try:
        return [(server.name, ToolboxSpec(server)) for server in load()]
    except (Exception, SystemExit) as error:
        # Whatever a user's module raises at import is its own fault and no reason to stop the node.
        log.exception("toolbox_failed", toolbox=source)
        return [(source, BrokenSpec(f"the toolbox does not load: {type(error).__name__}: {error}"))]


def _import_object(source: str) -> list[MCPServer[Any]]:
    module_name, colon, attribute = source.partition(":")
    if not colon:
        raise ValueError("a toolbox is named module:object, or is a folder")
    target: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        target = getattr(target, part)
    if not isinstance(target, MCPServer) and callable(target):
        target = target()
    if not isinstance(target, MCPServer):
        raise TypeError(f"{source} is not an MCPServer")
    return [target]


def _import_file(path: Path) -> ModuleType:
    name = "mcp_federation_toolbox_" + re.sub(r"\W", "_", str(path.resolve()))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    # Registered first: dataclasses and pydantic look a class's module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _servers_in_file(path: Path) -> list[MCPServer[Any]]:
    module = _import_file(path)
    servers = [value for value in vars(module).values() if isinstance(value, MCPServer)]
    if not servers:
        raise ValueError("the module has no MCPServer object")
    return servers
