"""The original import path: `python -m alita_kgot_enhanced.federation.mcp_federation --host … --port …`.

Runs a federation node as `mcp-federation up` does, with the same flags.
"""

import sys
from collections.abc import Sequence

from mcp_federation.edge.app import create_app
from mcp_federation.engine.sources.partner import remote_discover, remote_execute

__all__ = ["create_app", "main", "remote_discover", "remote_execute"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run a whole mesh on this machine; `argv` are the flags of `mcp-federation up`."""
    # Here, as whoever only calls a partner needs no command line.
    from mcp_federation.cli.main import main as command_line

    command_line(["up", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    main()
