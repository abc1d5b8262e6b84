"""Why a result stands where it does, in a sentence. Pure."""

from mcp_federation.engine.types import MCPRetrievalResult, MCPToolSpec

MEASURED = 1.0
"""Executions, of which older ones count for less, from which on a tool counts as measured lately."""


def reason(found: MCPRetrievalResult, spec: MCPToolSpec, success: float, executions: float) -> str:
    """What of the request the tool found matches, and what is expected of the provider `spec` of it.

    `success` is the predicted probability, `executions` how many the evidence for it is worth.
    """
    matched = f"matches {found.ranking_factors['overlap']:.0%} of the request's words"
    expected = f"should succeed in {success:.0%} of calls"
    if executions < MEASURED:
        expected += " (by tools like it: it was not measured lately)"
    return f"{matched}, {expected}, and {_place(spec)}"


def _place(spec: MCPToolSpec) -> str:
    if not spec.metadata.get("executable"):
        return "is described only: nothing runs it"
    if not spec.metadata.get("available"):
        return "cannot be reached now"
    return f"runs on {spec.metadata['node']}" if spec.metadata.get("node") else "runs here"
