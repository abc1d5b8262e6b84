"""The commands of `mcp-federation`. Each imports what it runs only when it runs."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mcp_federation.cli.governance_app import governance_app
from mcp_federation.cli.options import (
    AsJson,
    Config,
    Host,
    LogLevel,
    NatsUrl,
    Port,
    StateFolder,
    Token,
    Toolboxes,
    Trust,
    mesh_of,
    run_service_of,
    words,
)
from mcp_federation.errors import FederationError

app = typer.Typer(
    name="mcp-federation",
    help="Federate MCP tool servers across organisations over NATS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(governance_app, name="governance")


def _print_version(wanted: bool) -> None:
    if wanted:
        from mcp_federation.version import VERSION

        typer.echo(f"mcp-federation {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Federate MCP tool servers across organisations over NATS."""


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Run three organisations with real servers.")] = False,
    config: Config = None,
    toolbox: Toolboxes = None,
    host: Host = None,
    port: Port = None,
    state_dir: StateFolder = None,
    token: Token = None,
    log_level: LogLevel = None,
) -> None:
    """Run a whole mesh on this machine: nats-server, governance, metrics, a node and the edge."""
    from mcp_federation.cli.processes import run_up

    raise typer.Exit(
        run_up(
            demo=demo,
            config=config,
            toolboxes=words(toolbox),
            host=host,
            port=port,
            state_dir=state_dir,
            token=token,
            log_level=log_level,
        )
    )


@app.command()
def node(
    name: Annotated[str | None, typer.Option(help="The node's name: a lower-case DNS label.")] = None,
    config: Config = None,
    toolbox: Toolboxes = None,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
    log_level: LogLevel = None,
) -> None:
    """Run one organisation's node: its MCP servers and Python toolboxes."""
    run_service_of(
        "node",
        node=name,
        config=config,
        toolboxes=words(toolbox),
        nats_url=nats,
        trusted_keys=words(trust),
        state_dir=state_dir,
        log_level=log_level,
    )


@app.command()
def metrics(nats: NatsUrl = None, state_dir: StateFolder = None, log_level: LogLevel = None) -> None:
    """Run a metrics worker: it aggregates anonymised execution records."""
    run_service_of("metrics", nats_url=nats, state_dir=state_dir, log_level=log_level)


@app.command()
def edge(
    host: Host = None,
    port: Port = None,
    token: Token = None,
    home: Annotated[
        str | None, typer.Option("--node", help="The node whose tools a plain name prefers.", metavar="NAME")
    ] = None,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
    log_level: LogLevel = None,
) -> None:
    """Run an edge: the REST API of the federation."""
    run_service_of(
        "edge",
        host=host,
        port=port,
        token=token,
        node=home,
        nats_url=nats,
        trusted_keys=words(trust),
        state_dir=state_dir,
        log_level=log_level,
    )


@app.command()
def discover(
    query: Annotated[str, typer.Argument(help="Words that the name or description must have.")] = "",
    as_json: AsJson = False,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """List the tools of the mesh."""
    from mcp_federation.cli.discover import run_discover

    raise typer.Exit(run_discover(query, as_json, **mesh_of(nats, trust, state_dir)))


@app.command()
def recommend(
    request: Annotated[str, typer.Argument(help="What is to be done, in a sentence.")],
    objective: Annotated[
        Literal["balanced", "reliability", "latency", "cost"],
        typer.Option("--for", help="What to prefer among tools that fit."),
    ] = "balanced",
    limit: Annotated[int, typer.Option(help="How many tools.", min=1, max=100)] = 3,
    as_json: AsJson = False,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """Find the tools that would do what a sentence asks for, best first."""
    from mcp_federation.cli.recommend import run_recommend

    raise typer.Exit(run_recommend(request, objective, limit, as_json, **mesh_of(nats, trust, state_dir)))


@app.command()
def call(
    name: Annotated[str, typer.Argument(help="A tool: name, or name@node.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Arguments; a value is JSON where it parses as JSON."),
    ] = None,
    args: Annotated[
        str, typer.Option("--args", help="All arguments as one JSON object.", metavar="JSON")
    ] = "{}",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.001)] = 30.0,
    as_json: AsJson = False,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """Execute a tool and print its result."""
    from mcp_federation.cli.arguments import parse_arguments
    from mcp_federation.cli.call import run_call

    try:
        arguments = parse_arguments(args, pairs or [])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(run_call(name, arguments, timeout, as_json, **mesh_of(nats, trust, state_dir)))


@app.command()
def audit(
    node: Annotated[str | None, typer.Option(help="Only this node's tools.", metavar="NAME")] = None,
    tool: Annotated[
        str | None, typer.Option(help="Only tools with this in their name.", metavar="TEXT")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from then on: 30min, 2h, 3d or 2026-11-22.", metavar="TIME")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the last ones.", min=1, metavar="NUMBER")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that no record was changed, dropped or added.")
    ] = False,
    anchor: Annotated[
        str | None, typer.Option(help="What --verify printed before; implies it.", metavar="NUMBER:HASH")
    ] = None,
    as_json: AsJson = False,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """Show what governance and its operators decided, and why."""
    from mcp_federation.cli.audit import Query, parse_anchor, parse_since, run_audit

    query = Query(node, tool, parse_since(since) if since else 0.0, limit)
    noted = parse_anchor(anchor) if anchor else None
    raise typer.Exit(
        run_audit(
            query,
            verify=verify or noted is not None,
            anchor=noted,
            as_json=as_json,
            **mesh_of(nats, trust, state_dir),
        )
    )


@app.command()
def scan(
    target: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|URL|COMMAND…",
            help="An mcpServers file, a JSON list of tools, an MCP server's URL, or, after --, its command.",
        ),
    ],
    policy: Annotated[
        str, typer.Option(help="open, standard, strict, or a TOML file.", metavar="POLICY")
    ] = "standard",
    fail_on: Annotated[
        Literal["info", "low", "medium", "high", "critical"] | None,
        typer.Option(help="Exit with 1 for a finding of that severity; else for what would not be approved."),
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option(help="Write the findings as SARIF 2.1.0 as well.", metavar="FILE")
    ] = None,
    call_read_only: Annotated[
        bool,
        typer.Option("--call-read-only", help="Call tools that say they only read, with made-up arguments."),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that a server may take to start.", min=0.1)] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Check MCP servers as governance would, without a mesh. Exits with 1 where something is wrong."""
    from mcp_federation.cli.scan import run_scan
    from mcp_federation.cli.targets import Probe

    raise typer.Exit(
        run_scan(
            target,
            policy=policy,
            probe=Probe(timeout, call_read_only),
            fail_on=fail_on,
            sarif_file=sarif,
            as_json=as_json,
        )
    )


def main(argv: list[str] | None = None) -> None:
    """Run a command, and exit with its code: 0, 1 on an error (one line on stderr), 2 on wrong usage."""
    try:
        app(args=argv, prog_name="mcp-federation")
    except FederationError as error:
        typer.echo(f"mcp-federation: {error.message}", err=True)
        sys.exit(1)
