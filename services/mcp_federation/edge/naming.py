"""What `mcp_name` means at an edge. Pure."""

from mcp_federation.catalog.state import CatalogState
from mcp_federation.contract.names import federated_name, split_federated_name


def mcp_name(local: str, node: str, home: str) -> str:
    """How a tool is called here: by its local name on the home node, by its federated name elsewhere."""
    # A local name that reads like a federated one would mean another node's tool.
    if node == home and split_federated_name(local)[1] is None:
        return local
    return federated_name(local, node)


def resolve(name: str, state: CatalogState, home: str) -> tuple[str, str]:
    """`(node, tool)` behind a name: as the catalog knows it, else as it reads, else on the home node."""
    local, node = split_federated_name(name)
    if node is not None and state.get(node, local):
        return node, local
    providers = sorted(tool.node for tool in state.providers(name))
    if home in providers:
        return home, name
    if providers:
        return providers[0], name
    return (home, name) if node is None else (node, local)
