"""The options that several commands have, and what they mean to the settings."""

from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[
    Path | None, typer.Option(help="An mcpServers file, as MCP clients use it.", metavar="FILE")
]
Toolboxes = Annotated[
    list[str] | None,
    typer.Option(
        "--toolbox", help="A Python toolbox: module:object or a folder. Repeatable.", metavar="SPEC"
    ),
]
NatsUrl = Annotated[str | None, typer.Option("--nats", help="NATS servers, comma separated.", metavar="URL")]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust", help="A governance key to trust: ed25519:… or a file. Repeatable.", metavar="KEY_OR_FILE"
    ),
]
StateFolder = Annotated[
    Path | None, typer.Option("--state-dir", help="Where keys and state are kept.", metavar="DIR")
]
LogLevel = Annotated[
    str | None, typer.Option(help="error, warn, info, http, verbose, debug or silly.", metavar="LEVEL")
]
Host = Annotated[str | None, typer.Option(help="The address that the REST API listens on.")]
Port = Annotated[int | None, typer.Option(help="The port of the REST API; 0 takes a free one.", max=65535)]
Token = Annotated[
    str | None,
    typer.Option(help="The bearer token of the REST API; better set MCP_FEDERATION_TOKEN.", metavar="TOKEN"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ToolName = Annotated[str, typer.Argument(help="A tool: name@node, or its name alone.", metavar="NAME")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit trail.", metavar="TEXT")]
SeenDigest = Annotated[
    str | None,
    typer.Option("--digest", help="The text that you saw, or its beginning; asks nothing.", metavar="DIGEST"),
]
Yes = Annotated[bool, typer.Option("--yes", help="Whatever its text is by now; asks nothing.")]
OperatorKey = Annotated[
    Path | None, typer.Option("--key", help="The key to decide with; else governance's own.", metavar="FILE")
]


def run_service_of(kind: str, **overrides: Any) -> None:
    """Run one process until it is stopped, and exit with its code."""
    from mcp_federation.cli.processes import run_service

    raise typer.Exit(run_service(kind, **overrides))


def mesh_of(nats: str | None, trust: list[str] | None, state_dir: Path | None) -> dict[str, Any]:
    """The settings that say which mesh is meant."""
    return {"nats_url": nats, "trusted_keys": words(trust), "state_dir": state_dir}


def words(values: list[str] | None) -> tuple[str, ...] | None:
    """Repeated values as a setting; None where none is given."""
    return tuple(values) if values else None
