"""The values of the RAG-MCP engine: what is indexed, what is asked, what is answered."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class MCPCategory(StrEnum):
    """What a tool is for, coarsely."""

    WEB_INFORMATION = "web_information"
    DATA_PROCESSING = "data_processing"
    COMMUNICATION = "communication"
    DEVELOPMENT = "development"


class PipelineStage(StrEnum):
    """Where a query stands in the pipeline, in this order."""

    QUERY_ENCODING = "query_encoding"
    VECTOR_SEARCH = "vector_search"
    VALIDATION = "validation"
    MCP_SELECTION = "mcp_selection"


@dataclass(slots=True)
class MCPToolSpec:
    """One tool, or the prior for one.

    The three figures and `pareto_score` are in [0, 1]. `metadata` holds `local_name`, `federated_name`,
    `node`, `server`, `title`, `version`, `input_schema`, `executable` (something runs it), `available`
    (and it can be reached now), `source` (who listed it); a static prior has `static` and, once a real
    tool stands behind it, `provided`.
    """

    name: str
    description: str
    capabilities: list[str]
    category: MCPCategory
    usage_frequency: float
    reliability_score: float
    cost_efficiency: float
    pareto_score: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    embedding: list[float] | None = None
    indexed_at: datetime | None = None

    @property
    def runnable(self) -> bool:
        """Whether calling it can work now."""
        return bool(self.metadata.get("executable")) and bool(self.metadata.get("available"))


@dataclass(slots=True)
class RAGMCPQuery:
    """A user's request on its way through the pipeline; `encoded_query` are its stemmed terms."""

    query_id: str
    original_query: str
    encoded_query: tuple[str, ...] | None = None
    processing_metadata: dict[str, Any] = field(default_factory=dict)
    pipeline_stage: PipelineStage = PipelineStage.QUERY_ENCODING
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class MCPRetrievalResult:
    """One retrieved tool, by the best of its `providers`; every score is in [0, 1].

    `similarity_score` is the probability that it serves the request (see `search.ranking`),
    `relevance_score` that in relation to the best hit of this query, `selection_confidence` what the results
    are ordered by, after whether they can be run now; `ranking_factors` shows its making, and
    `matched_terms` are those of the request's terms that the tool's document has. `providers` are the names
    of the tool's specs on all nodes, best first.
    """

    mcp_spec: MCPToolSpec
    similarity_score: float
    relevance_score: float
    validation_score: float
    selection_confidence: float
    ranking_factors: dict[str, float] = field(default_factory=dict)
    matched_terms: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()


@dataclass(slots=True)
class RAGMCPPipelineResult:
    """The answer to one query, best tool first; `error_message` says why where `success` is False."""

    query: RAGMCPQuery
    retrieved_mcps: list[MCPRetrievalResult]
    pipeline_metadata: dict[str, Any]
    processing_time_ms: float
    success: bool
    error_message: str | None = None
