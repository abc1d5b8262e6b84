"""The sources that a configuration names by their URLs."""

import os
from collections.abc import Iterable, Sequence
from functools import partial

from mcp_federation.engine.sources.mesh import NatsMesh
from mcp_federation.engine.sources.rest import RestPartner
from mcp_federation.engine.sources.source import CatalogSource
from mcp_federation.errors import InvalidRequest
from mcp_federation.logs import get_logger
from mcp_federation.trust.keys import read_trusted_keys
from mcp_federation.trust.policy import Policy
from mcp_federation.trust.policy_file import load_policy

log = get_logger("engine")


_MESHES = ("nats://", "tls://", "ws://", "wss://")


def sources_at(
    urls: Iterable[str],
    token: str | None,
    trusted_keys: Sequence[str],
    *,
    discover_timeout: float,
    execute_timeout: float,
) -> list[CatalogSource]:
    """The sources behind URLs: of meshes over NATS, and of REST faces. What is no such URL is logged."""
    found: list[CatalogSource] = []
    for position, url in enumerate(filter(None, map(str.strip, urls)), start=1):
        try:
            kind = (
                partial(NatsMesh, url, read_trusted_keys(trusted_keys))
                if url.startswith(_MESHES)
                else partial(RestPartner, url, token)
            )
            found.append(
                kind(
                    imports=_import_policy(),
                    discover_timeout=discover_timeout,
                    execute_timeout=execute_timeout,
                )
            )
        except InvalidRequest as error:
            # Not the URL itself: it may hold credentials.
            log.error("partner_ignored", position=position, reason=error.message)
    return found


def _import_policy() -> Policy | None:
    """The policy of the environment's MCP_FEDERATION_IMPORT_POLICY."""
    source = os.environ.get("MCP_FEDERATION_IMPORT_POLICY")
    return load_policy(source) if source else None
