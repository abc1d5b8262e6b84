"""The original import path of the federated engine."""

from mcp_federation.engine.federated import FederatedRAGMCPEngine
from mcp_federation.engine.rag import RAGMCPEngine

__all__ = ["FederatedRAGMCPEngine", "RAGMCPEngine"]
