"""The Python client: what a call means, whom it goes to, and what becomes of it when something goes wrong."""

from mcp_federation.client.client import FederationClient

__all__ = ["FederationClient"]
