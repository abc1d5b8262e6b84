"""Runs the processes of a mesh: all of them, or a single one."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Final

from mcp_federation.logs import Level, configure_logs
from mcp_federation.process import run_process
from mcp_federation.settings import Settings, load_settings

Run = Callable[[Settings, asyncio.Event], Awaitable[None]]

SERVICES: Final = {kind: f"mcp_federation.{kind}.app" for kind in ("node", "governance", "metrics", "edge")}


def run_service(kind: str, **overrides: Any) -> int:
    """Run one process until it is stopped; its exit code. `overrides` are fields of the settings.

    Raises:
        InvalidRequest: a setting does not fit.
    """
    settings = load_settings(**overrides)
    configure_logs(settings.log_level)
    run: Run = import_module(SERVICES[kind]).run
    return run_process(lambda stop: run(settings, stop))


def run_up(*, demo: bool, **overrides: Any) -> int:
    """Run a mesh until it is stopped; its exit code.

    Raises:
        InvalidRequest: a setting, or the mcpServers file, is wrong.
    """
    from mcp_federation.mesh.terminal import make_console
    from mcp_federation.mesh.up import up

    settings = load_settings(**overrides)
    configure_logs(_terminal_level(settings.log_level))
    if settings.config is not None:
        from mcp_federation.node.servers.config import load_config

        load_config(settings.config)
    return run_process(lambda stop: up(settings, stop, demo=demo, console=make_console()))


def _terminal_level(level: Level) -> Level:
    """The children log to files; the terminal shows their trouble, and more only on request."""
    return "warn" if level == "info" else level
