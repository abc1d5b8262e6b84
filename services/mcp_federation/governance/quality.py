"""The quality checks: is this tool fit to be found, chosen and called by others? Pure."""

from typing import Final

from mcp_federation.governance.checks import collisions, descriptions, fitness, names, schemas
from mcp_federation.governance.checks.check import Suite

QUALITY: Final = Suite(
    *names.QUALITY, *descriptions.CHECKS, *schemas.CHECKS, *fitness.QUALITY, *collisions.QUALITY
)
