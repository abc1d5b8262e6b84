"""The quality checks: is this tool fit to be found, chosen and called by others? Pure."""

from typing import Final

from mcp_federation.contract.messages import Finding, Registration
from mcp_federation.governance.checks import collisions, descriptions, fitness, names, schemas
from mcp_federation.governance.checks.check import Suite
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.checks.reading import read

QUALITY: Final = Suite(
    *names.QUALITY, *descriptions.CHECKS, *schemas.CHECKS, *fitness.QUALITY, *collisions.QUALITY
)


def run_quality_checks(registration: Registration, catalog: CatalogView | None = None) -> list[Finding]:
    """What the quality checks find, beside what is published already; never raises."""
    return QUALITY.run(read(registration, catalog))
