"""The security checks: may this tool be shown to other people's models and machines? Pure."""

from typing import Final

from mcp_federation.contract.messages import Finding, Registration
from mcp_federation.governance.checks import credentials, hidden_text, names, urls
from mcp_federation.governance.checks.catalogue import Catalogue
from mcp_federation.governance.checks.context import CatalogView
from mcp_federation.governance.checks.reading import read

SECURITY: Final = Catalogue(*hidden_text.CHECKS, *names.SECURITY, *credentials.CHECKS, *urls.CHECKS)


def run_security_checks(registration: Registration, catalog: CatalogView | None = None) -> list[Finding]:
    """What the security checks find, beside what is published already; never raises."""
    return SECURITY.run(read(registration, catalog))
