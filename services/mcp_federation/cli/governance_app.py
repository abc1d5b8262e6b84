"""The commands of `mcp-federation governance`: the worker, and what a person decides."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mcp_federation.cli.options import (
    AsJson,
    LogLevel,
    NatsUrl,
    OperatorKey,
    Reason,
    SeenDigest,
    StateFolder,
    ToolName,
    Trust,
    Yes,
    mesh_of,
    run_service_of,
    words,
)

governance_app = typer.Typer(invoke_without_command=True)


@governance_app.callback()
def governance(
    context: typer.Context,
    policy: Annotated[
        str | None, typer.Option(help="open, standard, strict, or a TOML file.", metavar="POLICY")
    ] = None,
    operator: Annotated[
        list[str] | None,
        typer.Option(help="A key that may decide: ed25519:… or a file. Repeatable.", metavar="KEY_OR_FILE"),
    ] = None,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
    log_level: LogLevel = None,
) -> None:
    """Run a governance worker, which judges registrations; or decide on what it left to a person."""
    if context.invoked_subcommand is None:
        run_service_of(
            "governance",
            policy=policy,
            operators=words(operator),
            nats_url=nats,
            trusted_keys=words(trust),
            state_dir=state_dir,
            log_level=log_level,
        )


@governance_app.command()
def review(
    node: Annotated[str | None, typer.Option(help="Only this node's tools.", metavar="NAME")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tools that governance knows.")] = False,
    as_json: AsJson = False,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """List the tools that wait for a person."""
    from mcp_federation.cli.governance import run_review

    raise typer.Exit(
        run_review(node=node, everything=everything, as_json=as_json, **mesh_of(nats, trust, state_dir))
    )


@governance_app.command()
def explain(
    name: ToolName,
    as_json: AsJson = False,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """Show why a tool stands as it does: what changed, what was found, who decided."""
    from mcp_federation.cli.governance import run_explain

    raise typer.Exit(run_explain(name, as_json=as_json, **mesh_of(nats, trust, state_dir)))


@governance_app.command()
def approve(
    name: ToolName,
    reason: Reason = "",
    digest: SeenDigest = None,
    yes: Yes = False,
    key: OperatorKey = None,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """Approve a tool that waits for a person; its node publishes it at once."""
    _rule("approve", name, reason, digest, yes, key, mesh_of(nats, trust, state_dir))


@governance_app.command()
def reject(
    name: ToolName,
    reason: Reason = "",
    digest: SeenDigest = None,
    yes: Yes = False,
    key: OperatorKey = None,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """Reject a tool that waits for a person."""
    _rule("reject", name, reason, digest, yes, key, mesh_of(nats, trust, state_dir))


@governance_app.command()
def revoke(
    name: ToolName,
    reason: Reason = "",
    digest: SeenDigest = None,
    yes: Yes = False,
    key: OperatorKey = None,
    nats: NatsUrl = None,
    trust: Trust = None,
    state_dir: StateFolder = None,
) -> None:
    """Take back the approval of a tool: nobody in the mesh offers it any more, within a second."""
    _rule("revoke", name, reason, digest, yes, key, mesh_of(nats, trust, state_dir))


@governance_app.command("key")
def operator_key(
    file: Annotated[Path, typer.Argument(help="Where the private key is, or is to be.", metavar="FILE")],
) -> None:
    """Make a key to decide with, and print the line that governance is told by --operator."""
    from mcp_federation.cli.governance import run_key

    raise typer.Exit(run_key(file))


def _rule(
    act: Literal["approve", "reject", "revoke"],
    name: str,
    reason: str,
    digest: str | None,
    yes: bool,
    key: Path | None,
    mesh: dict[str, Any],
) -> None:
    from mcp_federation.cli.governance import run_ruling

    raise typer.Exit(run_ruling(act, name, reason=reason, digest=digest, yes=yes, key=key, **mesh))
