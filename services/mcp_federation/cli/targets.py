"""What `scan` is pointed to, and the tools behind it: files, MCP servers by URL, and commands."""

import asyncio
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import json5
import mcp_types
from pydantic import ValidationError

from mcp_federation.contract.mcp import hints
from mcp_federation.contract.messages import Finding, Severity
from mcp_federation.errors import FederationError, InvalidRequest
from mcp_federation.node.publication.samples import sample_arguments
from mcp_federation.node.servers.config import HttpSpec, Spec, StdioSpec, load_config
from mcp_federation.node.servers.server import SupervisedServer
from mcp_federation.node.tools import LocalTool, to_local_tools

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
SLOW_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 1.0
"""Seconds that a server is watched after it listed its tools: it might list others the second time."""

CALL_TIMEOUT: Final = 10.0
UNUSABLE: Final = "probe-failed"


@dataclass
class Scanned:
    """One server, or one file of tools: what it lists and says of itself, and what was noticed of it."""

    name: str
    origin: str
    tools: list[LocalTool] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    file: Path | None = None
    title: str = ""
    instructions: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether there was anything to scan: a file that could be read, a server that listed its tools."""
        return all(finding.rule != UNUSABLE for finding in self.findings)


@dataclass(frozen=True)
class Probe:
    """How a live server is tried: for how long it may start, and whether read-only tools are called."""

    timeout: float = 30.0
    call_read_only: bool = False


async def read_target(words: Sequence[str], probe: Probe) -> list[Scanned]:
    """The servers behind a target: one word that is a URL or a file that is no program, else a command.

    Raises:
        InvalidRequest: it is none of them, or the file is of no known form.
    """
    if len(words) == 1:
        (word,) = words
        if word.startswith(("http://", "https://")):
            return [await _live(_host(word), word, HttpSpec(word), probe)]
        if Path(word).is_file() and not _is_program(Path(word)):  # noqa: ASYNC240 - before anything runs
            return await _file(Path(word), probe)
        if word.endswith((".json", ".jsonc", ".json5")):
            raise InvalidRequest(f"there is no file {word}")
        words = shlex.split(word)
    if not words:
        raise InvalidRequest("name a file, a URL, or a command")
    return [await _live(Path(words[0]).name, shlex.join(words), StdioSpec(words[0], tuple(words[1:])), probe)]


def _is_program(path: Path) -> bool:
    return os.access(path, os.X_OK) and path.suffix not in (".json", ".jsonc", ".json5")


async def _file(path: Path, probe: Probe) -> list[Scanned]:
    document = _load(path)
    if isinstance(document, dict) and isinstance(document.get("mcpServers", document.get("servers")), dict):
        specs = load_config(path)
        live = (_live(name, path.name, spec, probe, path) for name, spec in specs.items())
        return list(await asyncio.gather(*live))
    listed = _listed(document)
    if listed is None:
        raise InvalidRequest(
            f"{path.name} is neither an mcpServers file, nor a list of tools as `tools/list` answers it"
        )
    scanned = Scanned(path.stem, path.name, file=path)
    _take(scanned, listed)
    return [scanned]


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidRequest(f"{path.name} is over {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(f"cannot read {path.name}: {why}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return json5.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{path.name} is not JSON: {error}") from None


def _listed(document: Any) -> list[Any] | None:
    """The tools of a document: a list, an answer to `tools/list`, or a message that holds one."""
    for _ in range(3):
        if isinstance(document, list):
            return document
        if not isinstance(document, dict):
            return None
        if "inputSchema" in document and "name" in document:
            return [document]
        document = document.get("tools", document.get("result"))
    return None


def _take(scanned: Scanned, listed: list[Any]) -> None:
    tools: list[mcp_types.Tool] = []
    for number, item in enumerate(listed, 1):
        try:
            tools.append(mcp_types.Tool.model_validate(item))
        except ValidationError as error:
            place = "/".join(str(part) for part in error.errors()[0]["loc"])
            why = f"tool {number} is none: {place}: {error.errors()[0]['msg']}"
            scanned.findings.append(_finding("not-a-tool", "high", why, "Write it as MCP's `Tool`."))
    _take_tools(scanned, *to_local_tools(scanned.name, tools, version="", only_tool_is_server=False))


def _take_tools(scanned: Scanned, tools: list[LocalTool], unfit: dict[str, str]) -> None:
    scanned.tools = tools
    for name, reason in unfit.items():
        scanned.findings.append(
            _finding("not-publishable", "high", f"{name[:80]!r} cannot be published: {reason}", "Mend it.")
        )


async def _live(name: str, origin: str, spec: Spec, probe: Probe, file: Path | None = None) -> Scanned:
    """Start or reach a server, list its tools, watch it a little, and try it where that is wanted."""
    scanned = Scanned(name, origin, file=file)
    changed = asyncio.Event()
    server = SupervisedServer(
        name,
        spec,
        on_change=lambda _: changed.set(),
        start_timeout=probe.timeout,
        poll_interval=WATCH_SECONDS / 4,
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    server.start()
    try:
        async with asyncio.timeout(probe.timeout + 5):
            await server.settled()
        if server.state.state != "ready":
            scanned.findings.append(_unusable(server.state.reason))
            return scanned
        _note_slowness(scanned, loop.time() - began)
        listed = {tool.tool.name: tool.digest for tool in server.tools}
        _take_tools(scanned, list(server.tools), dict(server.unfit))
        scanned.title, scanned.instructions = server.title, server.instructions
        changed.clear()
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                await changed.wait()
        except TimeoutError:
            pass
        _note_changes(scanned, listed, server)
        if probe.call_read_only:
            for tool in scanned.tools:
                await _try(scanned, server, tool)
    except TimeoutError:
        scanned.findings.append(_unusable(f"it did not start within {probe.timeout:g} s"))
    finally:
        await server.stop()
    return scanned


def _note_slowness(scanned: Scanned, seconds: float) -> None:
    if seconds > SLOW_SECONDS:
        why = f"it took {seconds:.1f} s until it listed its tools"
        scanned.findings.append(_finding("probe-slow", "low", why, "Do at the first call what takes long."))


def _note_changes(scanned: Scanned, listed: dict[str, str], server: SupervisedServer) -> None:
    now = {tool.tool.name: tool.digest for tool in server.tools}
    for name in sorted({*listed, *now}):
        if listed.get(name) != now.get(name):
            why = f"{name!r} was listed with another text a moment later, without anybody having changed it"
            remedy = "List the same tools to everybody; a text that changes is not the one that was checked."
            scanned.findings.append(_finding("probe-unstable", "high", why, remedy))


async def _try(scanned: Scanned, server: SupervisedServer, tool: LocalTool) -> None:
    if hints(tool.tool).get("readOnlyHint") is not True:
        return
    arguments = sample_arguments(json.loads(bytes(tool.tool.input_schema)))
    try:
        await server.call(tool.remote_name, arguments, CALL_TIMEOUT)
    except FederationError as error:
        why = f"{tool.tool.name!r} called with {json.dumps(arguments)[:120]}: {error.message}"
        remedy = "See that it answers what its own schema allows."
        scanned.findings.append(_finding("probe-call-failed", "low", why, remedy))


def _unusable(reason: str) -> Finding:
    return _finding(UNUSABLE, "high", f"it cannot be used: {reason}", "See that it starts and lists tools.")


def _finding(rule: str, severity: Severity, why: str, remedy: str) -> Finding:
    return Finding(rule=rule, severity=severity, where="", why=why, remedy=remedy)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2] or "server"
