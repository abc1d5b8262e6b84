"""Which processes make a mesh, and what each of them is told. Pure.

Every process is the command that a user would start singly. What it is told stands in its environment,
where other users of the machine cannot read it, and on its command line only what helps to tell the
processes apart.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mcp_federation.mesh.state import StateDir
from mcp_federation.mesh.supervisor import Command
from mcp_federation.settings import Settings

BUNDLED: Final = tuple(
    f"mcp_federation.toolbox.{name}:server" for name in ("file_operations", "text_processing", "database")
)
TOOLBOX_ROOT: Final = "MCP_FEDERATION_TOOLBOX_ROOT"

_PREFIX = "MCP_FEDERATION_"
_GIVEN_TO_EACH = ("NATS_URL", "TRUSTED_KEYS", "NODE", "STATE_DIR", "CONFIG", "TOOLBOXES")
_GIVEN_TO_EDGE = ("TOKEN", "NODES", "HOST", "PORT")
_GIVEN_TO_GOVERNANCE = ("JUDGE_KEY",)


@dataclass(frozen=True)
class NodePlan:
    """One organisation's node: its mcpServers file and its Python toolboxes."""

    name: str
    config: Path | None = None
    toolboxes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """A call to show in the first place: a federated name and its arguments."""

    tool: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Topology:
    """The nodes of a mesh. The first one is the edge's home: its tools are what a plain name prefers."""

    nodes: tuple[NodePlan, ...]
    example: Example

    @property
    def home(self) -> str:
        """The name of the edge's node."""
        return self.nodes[0].name


def local_topology(settings: Settings) -> Topology:
    """One node with the bundled toolbox, and the servers and toolboxes of the settings."""
    example = Example(
        f"file_operations_mcp@{settings.node}", {"operation": "inspect", "source_path": "example.txt"}
    )
    return Topology((_home_node(settings.node, settings),), example)


def demo_topology(settings: Settings, globex: Path, initech: Path) -> Topology:
    """Three organisations; the first has the bundled toolbox, the others the servers of those files."""
    nodes = (_home_node("acme", settings), NodePlan("globex", globex), NodePlan("initech", initech))
    return Topology(nodes, Example("time.get_current_time@globex", {"timezone": "Europe/Berlin"}))


def _home_node(name: str, settings: Settings) -> NodePlan:
    config = settings.config.absolute() if settings.config else None
    return NodePlan(name, config, BUNDLED + settings.toolboxes)


@dataclass(frozen=True)
class Commands:
    """Makes the commands of a mesh that keeps its state in `state` and meets at `nats_url`."""

    settings: Settings
    state: StateDir
    nats_url: str
    environment: Mapping[str, str]

    def governance(self) -> Command:
        """The governance worker."""
        key = self.settings.judge_key
        return self._command("governance", judge_key=key.get_secret_value() if key else None)

    def metrics(self) -> Command:
        """The metrics worker."""
        return self._command("metrics")

    def node(self, plan: NodePlan, trusted_keys: str) -> Command:
        """One organisation's node."""
        name = process_of(plan.name)
        command = self._command(
            "node",
            "--name",
            plan.name,
            name=name,
            trusted_keys=trusted_keys,
            node=plan.name,
            config=plan.config,
            toolboxes=",".join(plan.toolboxes),
        )
        return Command(name, command.argv, {**command.env, TOOLBOX_ROOT: str(self.state.files)})

    def edge(self, home: str, port: int, trusted_keys: str) -> Command:
        """The edge, at home on a node."""
        settings = self.settings
        return self._command(
            "edge",
            "--port",
            str(port),
            trusted_keys=trusted_keys,
            node=home,
            host=settings.host,
            port=port,
            token=settings.token.get_secret_value() if settings.token else None,
            nodes=",".join(settings.nodes),
        )

    def _command(self, kind: str, *flags: str, name: str = "", **told: Any) -> Command:
        told |= {
            "nats_url": self.nats_url,
            "state_dir": self.state.of_process(name or kind),
            "log_level": self.settings.log_level,
        }
        if "sharing" not in self.settings.model_fields_set:
            told["sharing"] = "records"  # whoever runs all of a mesh hides nothing from anybody else
        variables = {
            f"{_PREFIX}{key.upper()}": str(value) for key, value in told.items() if value is not None
        }
        # -P: a module of the folder that the mesh is started in must not stand in for one of ours.
        argv = (sys.executable, "-P", "-m", "mcp_federation.cli", kind, *flags)
        return Command(name or kind, argv, {**self.environment, **variables})


def process_of(node: str) -> str:
    """The name of a node's process."""
    return f"node-{node}"


def base_environment() -> dict[str, str]:
    """This process's environment without what the settings put into each child's own."""
    ours = {f"{_PREFIX}{name}" for name in (*_GIVEN_TO_EACH, *_GIVEN_TO_EDGE, *_GIVEN_TO_GOVERNANCE)}
    return {name: value for name, value in os.environ.items() if name not in ours}
