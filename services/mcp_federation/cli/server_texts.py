"""What a server says of itself, checked as any text that a model reads. Pure."""

from collections.abc import Iterator
from typing import Final

import msgspec

from mcp_federation.cli.targets import Scanned
from mcp_federation.contract.messages import Finding, Registration, Tool
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.checks.reading import read
from mcp_federation.governance.security import SECURITY

_PLACES: Final = {"description": "instructions", "title": "title"}
"""Where a finding is, by where it is in a tool with these texts."""


def server_findings(server: Scanned, node: str, catalog: CatalogView) -> Iterator[Finding]:
    """What the security checks find in the instructions and the title of a server."""
    if not (server.instructions or server.title):
        return
    tool = Tool(
        name=server.name,
        title=server.title or None,
        description=server.instructions,
        input_schema=msgspec.Raw(b'{"type":"object"}'),
    )
    registration = Registration(node=node, tool=tool, digest="", server=server.name)
    for finding in SECURITY.run(read(registration, catalog)):
        field, index, at = finding.where.partition("[")
        if field in _PLACES:
            # Instructions are there to instruct: what is not certain to be an attack is a note.
            is_doubtful = finding.rule == "suspected-instructions"
            yield msgspec.structs.replace(
                finding,
                where=f"{_PLACES[field]}{index}{at}",
                severity="low" if is_doubtful else finding.severity,
            )
