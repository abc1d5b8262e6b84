"""The security checks: may this tool be shown to other people's models and machines? Pure."""

from collections.abc import Mapping
from typing import Final

from mcp_federation.governance.checks import (
    collisions,
    credentials,
    fitness,
    hidden_text,
    names,
    shadowing,
    steering,
    urls,
)
from mcp_federation.governance.checks.check import Suite
from mcp_federation.governance.checks.detection import detector_checks
from mcp_federation.governance.detector.model import Head, heads


def security_suite(heads: Mapping[str, Head]) -> Suite:
    """All security checks, with these heads of the detector's model."""
    return Suite(
        *hidden_text.CHECKS,
        *names.SECURITY,
        *credentials.CHECKS,
        *urls.CHECKS,
        *steering.CHECKS,
        *shadowing.CHECKS,
        *collisions.SECURITY,
        *fitness.SECURITY,
        *detector_checks(heads),
    )


SECURITY: Final = security_suite(heads())
COLLISIONS: Final = Suite(*collisions.SECURITY)
"""Those that judge a tool by what other nodes have."""
