"""Tells a parent system's MCP brainstorming service what the pipeline selected."""

import math
import time
from collections.abc import Callable
from typing import Any

import msgspec

from mcp_federation.engine.http import exchange
from mcp_federation.engine.text import well_formed
from mcp_federation.engine.types import RAGMCPPipelineResult
from mcp_federation.errors import FederationError
from mcp_federation.logs import get_logger

log = get_logger("engine")

TIMEOUT = 2.0
"""Seconds for one message; the pipeline waits for it."""

PAUSE = 30.0
"""Seconds that a service which does not answer is left alone, so that not every request waits for it."""

_MAX_ANSWER = 64 * 1024


class BrainstormingSession:
    """One session at the service; without an `endpoint`, or once it failed to open, nothing is sent.

    What is selected while it is left alone is not told later.
    """

    def __init__(self, endpoint: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self._clock = clock
        self._session_id: str | None = None
        self._tell_again_at = -math.inf

    @property
    def connected(self) -> bool:
        """Whether the service opened a session."""
        return self._session_id is not None

    async def open(self) -> None:
        """Open the session; a service that does not answer is logged and done without."""
        if self._endpoint is None:
            return
        answer = await self._post("session/create", {"client_type": "rag_mcp_engine"})
        session_id = answer.get("session_id") if answer else None
        self._session_id = session_id if isinstance(session_id, str) else None

    async def tell(self, result: RAGMCPPipelineResult) -> None:
        """Send what was selected."""
        if self._session_id is None or self._clock() < self._tell_again_at:
            return
        selected = [
            {
                "name": found.mcp_spec.name,
                "category": found.mcp_spec.category,
                "confidence": found.selection_confidence,
                "pareto_score": found.mcp_spec.pareto_score,
            }
            for found in result.retrieved_mcps
        ]
        await self._post(
            "rag-mcp/results",
            {
                "session_id": self._session_id,
                "pipeline_id": result.query.query_id,
                "query": well_formed(result.query.original_query),
                "selected_mcps": selected,
            },
        )

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            status, answer = await exchange(
                "POST",
                f"{self._endpoint}/{path}",
                headers={},
                timeout=TIMEOUT,
                max_bytes=_MAX_ANSWER,
                body=body,
                peer="the brainstorming service",
            )
        except FederationError as error:
            log.warn("brainstorming_unreachable", reason=error.message)
            self._tell_again_at = self._clock() + PAUSE
            return None
        if status != 200:
            log.warn("brainstorming_refused", status=status)
            return None
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            log.warn("brainstorming_refused", reason="the answer is no JSON object")
            return None
