"""Reads the ecosystem's own `mcpServers` file, as Claude Desktop, VS Code and Cursor write it.

VS Code's key `servers`, comments and trailing commas are understood, and so are `${VAR}`,
`${VAR:-default}`, `${env:VAR}`, `${userHome}`, `${workspaceFolder}`, `${workspaceFolderBasename}` and
`${pathSeparator}` in its values. `${file:PATH}`, in headers and in `env` alone, is what a file holds whenever
the server is connected to. A key of our own, `maxConcurrency`, says how many calls the server takes at
once. An entry that makes no sense costs only itself.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import json5
import msgspec
from msgspec import Meta, Struct

from mcp_federation.errors import InvalidRequest
from mcp_federation.node.servers.from_files import FromFiles, Value

MAX_CONFIG_BYTES = 4 * 1024 * 1024
_FILE = "file:"
_VARIABLE = re.compile(r"\$\{([^{}]+)\}")


@dataclass(frozen=True)
class StdioSpec:
    """An MCP server that the node starts."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, Value] = field(default_factory=dict)
    cwd: str | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True)
class HttpSpec:
    """An MCP server that the node reaches, over streamable HTTP or the older SSE."""

    url: str
    headers: Mapping[str, Value] = field(default_factory=dict)
    transport: Literal["http", "sse"] = "http"
    max_concurrency: int | None = None


@dataclass(frozen=True)
class BrokenSpec:
    """An entry that cannot be run, and why."""

    reason: str


Spec = StdioSpec | HttpSpec | BrokenSpec


class _Entry(Struct):
    command: Annotated[str, Meta(min_length=1)] | None = None
    args: list[str | int | float] = msgspec.field(default_factory=list)
    env: dict[str, str | int | float | bool | None] = msgspec.field(default_factory=dict)
    cwd: str | None = None
    url: Annotated[str, Meta(min_length=1)] | None = None
    server_url: str | None = msgspec.field(default=None, name="serverUrl")
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    type: str | None = None
    disabled: bool = False
    max_concurrency: Annotated[int, Meta(ge=1, le=10_000)] | None = msgspec.field(
        default=None, name="maxConcurrency"
    )


def load_config(path: Path) -> dict[str, Spec]:
    """The servers of an `mcpServers` file by name, disabled ones left out.

    Raises:
        InvalidRequest: the file cannot be read, or is no such file.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InvalidRequest(f"{path.name} is over {MAX_CONFIG_BYTES} bytes")
        document = _parse(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is not valid JSON: {error}") from None
    servers = document.get("mcpServers", document.get("servers")) if isinstance(document, dict) else None
    if not isinstance(servers, dict):
        raise InvalidRequest(f'{path} has no "mcpServers" object')
    variables = {**os.environ, **_editor_variables(path.resolve().parent)}
    specs = {str(name): _spec(entry, variables) for name, entry in servers.items()}
    return {name: spec for name, spec in specs.items() if spec is not None}


def _editor_variables(folder: Path) -> dict[str, str]:
    return {
        "userHome": str(Path.home()),
        "workspaceFolder": str(folder),
        "workspaceFolderBasename": folder.name,
        "pathSeparator": os.sep,
        "/": os.sep,
    }


def _parse(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        # json5 is slow, and only files written by hand need it. What it takes beyond JSON (lone
        # surrogates, NaN) nothing behind this could send on.
        return msgspec.json.decode(json.dumps(json5.loads(text)))


def _spec(entry: Any, variables: Mapping[str, str]) -> Spec | None:
    try:
        parsed = msgspec.convert(entry, _Entry)
        if parsed.disabled:
            return None
        return _expanded(parsed, variables)
    except msgspec.ValidationError as error:
        return BrokenSpec(f"the configuration is wrong: {error}")
    except KeyError as error:
        return BrokenSpec(f"the configuration names a variable that is not set: {error.args[0]}")


def _expanded(entry: _Entry, variables: Mapping[str, str]) -> Spec:
    def expand(text: str) -> str:
        return _VARIABLE.sub(lambda match: _value(match[1], variables), text)

    def expand_value(text: str) -> Value:
        return _with_files(text, variables)

    url = entry.url or entry.server_url
    if entry.command is not None:
        env = {name: expand_value(_text(value)) for name, value in entry.env.items() if value is not None}
        cwd = expand(entry.cwd) if entry.cwd else None
        args = tuple(expand(_text(arg)) for arg in entry.args)
        return StdioSpec(expand(entry.command), args, env, cwd, entry.max_concurrency)
    if url is None:
        return BrokenSpec('the configuration is wrong: it needs a "command" or a "url"')
    url = expand(url)
    if not url.startswith(("http://", "https://")):
        return BrokenSpec("the configuration is wrong: the url must begin with http:// or https://")
    headers = {name: expand_value(value) for name, value in entry.headers.items()}
    return HttpSpec(url, headers, "sse" if entry.type == "sse" else "http", entry.max_concurrency)


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with_files(text: str, variables: Mapping[str, str]) -> Value:
    """A text with its variables filled in; what its files hold comes later."""
    parts: list[str | Path] = []
    # Of what is split by a pattern with a group, every second piece is the group's.
    for index, piece in enumerate(_VARIABLE.split(text)):
        if index % 2 and piece.startswith(_FILE):
            parts.append(Path(variables["workspaceFolder"], piece.removeprefix(_FILE)))
        else:
            parts.append(_value(piece, variables) if index % 2 else piece)
    if not any(isinstance(part, Path) for part in parts):
        return "".join(map(str, parts))
    return FromFiles(tuple(part for part in parts if part))


def _value(name: str, variables: Mapping[str, str]) -> str:
    """What a `${…}` stands for; raises KeyError where that is not set, as that of a file never is."""
    name = name.removeprefix("env:")
    name, has_default, default = name.partition(":-")
    value = variables.get(name)
    if value is not None:
        return value
    if has_default:
        return default
    raise KeyError(name)
