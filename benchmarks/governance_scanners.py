"""Other scanners of MCP tools, measured where they are installed; nothing is installed here.

Each is asked about one tool at a time, offline, by its own rules and without any model behind an API.
"""

import importlib
import importlib.util
import json
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scripts.detector.data import Row


@dataclass(frozen=True)
class Scanner:
    """A scanner, and how to ask it. `module` or `command` tells whether it is there."""

    name: str
    flagged: Callable[[Iterable[Row]], set[str]]
    module: str = ""
    command: str = ""

    def absent(self) -> str:
        """Why it cannot be measured; empty where it can."""
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"no module {self.module}"
        if self.command and shutil.which(self.command) is None:
            return f"no command {self.command}"
        return ""


def _each(make: Callable[[], Callable[[Row], object]]) -> Callable[[Iterable[Row]], set[str]]:
    """Ask about each tool; the scanner is made only when it is there. Any answer that is not empty counts."""

    def flagged(rows: Iterable[Row]) -> set[str]:
        ask = make()
        return {row.id for row in rows if ask(row)}

    return flagged


def _texts(row: Row) -> str:
    return f"{row.name}\n{row.description}\n{json.dumps(row.input_schema or {}, ensure_ascii=False)}"


def _agent_os() -> Callable[[Row], object]:
    scanner = importlib.import_module("agent_os.mcp_security").MCPSecurityScanner
    logging.getLogger("agent_os").setLevel(logging.CRITICAL)  # it warns of each finding
    # A new one for each tool: it remembers names, and flags those of one server that another has too.
    return lambda row: scanner().scan_tool(
        row.name, row.description, row.input_schema, row.server or "unknown"
    )


def _injectionguard() -> Callable[[Row], object]:
    detector = importlib.import_module("injectionguard.detector").Detector()
    return lambda row: not detector.is_safe(_texts(row))


def _mcp_guard() -> Callable[[Row], object]:
    detect = importlib.import_module("mcp_guard.poisoning").detect_poisoning
    spec = importlib.import_module("mcp_guard.models").ToolSpec
    return lambda row: detect(
        spec.model_validate(
            {"name": row.name, "description": row.description, "inputSchema": row.input_schema or {}}
        )
    )


SCANNERS: tuple[Scanner, ...] = (
    Scanner("agent-os-kernel", _each(_agent_os), module="agent_os"),
    Scanner("injectionguard", _each(_injectionguard), module="injectionguard"),
    Scanner("mcp-guard-audit (poisoning)", _each(_mcp_guard), module="mcp_guard"),
)
