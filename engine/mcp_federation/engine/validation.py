"""Validation: does a retrieved tool really serve the request, and can it run?"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol
from weakref import WeakValueDictionary

from mcp_federation.engine.documents import required_parameters
from mcp_federation.engine.text import name_words, terms
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.errors import FederationError, ServerUnavailable
from mcp_federation.logs import get_logger

log = get_logger("engine")

SIMILARITY_WEIGHT = 0.6
OVERLAP_WEIGHT = 0.05
SCHEMA_WEIGHT = 0.05
AVAILABLE_WEIGHT = 0.15
EXECUTABLE_WEIGHT = 0.15
LLM_WEIGHT = 0.7
"""The model's share of the score where there is one; the rest is the heuristic's."""

MAX_JUDGED = 50
"""Candidates that the model is asked about; those after them keep the heuristic's score."""

LLM_PAUSE = 30.0
"""Seconds that a failing model is left alone, so that not every query waits for its deadline."""


CACHED_JUDGEMENTS = 10_000
"""Scores of one tool for one request that are remembered; the oldest go first."""


class Scorer(Protocol):
    """Something that scores how well tools serve a request."""

    async def scores(self, query: str, specs: Sequence[MCPToolSpec]) -> list[float]:
        """One score in [0, 1] per spec, in order.

        Raises:
            FederationError: it cannot, now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A spec to validate, how similar to the request it is, and which of the request's terms it has."""

    spec: MCPToolSpec
    similarity: float
    matched: frozenset[str]


@dataclass(frozen=True, slots=True)
class Validation:
    """A score in [0, 1] and the factors it is made of."""

    score: float
    factors: dict[str, float]


def heuristic(query_terms: frozenset[str], candidate: Candidate) -> Validation:
    """0.6 similarity + 0.05 overlap + 0.05 schema match + 0.15 available + 0.15 executable.

    Overlap: the share of the request's terms that the tool's document has. Schema match: 1 where nothing
    is required, else 0.5 and up to 1 with the share of required parameters that the request names: a
    value is often given without its parameter's name.
    """
    overlap = len(query_terms & candidate.matched) / len(query_terms) if query_terms else 0.0
    required = required_parameters(candidate.spec.metadata.get("input_schema"))
    named = sum(not query_terms.isdisjoint(_name_terms(name)) for name in required)
    factors = {
        "overlap": overlap,
        "schema_match": 0.5 + 0.5 * named / len(required) if required else 1.0,
        "available": float(bool(candidate.spec.metadata.get("available"))),
        "executable": float(bool(candidate.spec.metadata.get("executable"))),
    }
    score = (
        SIMILARITY_WEIGHT * candidate.similarity
        + OVERLAP_WEIGHT * overlap
        + SCHEMA_WEIGHT * factors["schema_match"]
        + AVAILABLE_WEIGHT * factors["available"]
        + EXECUTABLE_WEIGHT * factors["executable"]
    )
    return Validation(score, factors)


@lru_cache(4096)
def _name_terms(name: str) -> frozenset[str]:
    return frozenset(terms(name_words(name)))


class Validator:
    """The heuristic, with a model's judgement where a `scorer` is given and answers.

    A model that is not there or fails is logged once until one answers, and a failing one is left alone
    for `LLM_PAUSE` seconds. It is asked about a tool and a request once: its scores are remembered for as
    long as the tool's description stays what it was.
    """

    def __init__(self, scorer: Scorer | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._scorer = scorer
        self._clock = clock
        self._failing = False
        self._ask_again_at = 0.0
        self._judged: dict[bytes, float] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def model_answers(self) -> bool:
        """Whether there is a model, and it answered when last asked."""
        return self._scorer is not None and not self._failing

    async def validate(
        self, query: str, query_terms: frozenset[str], candidates: Sequence[Candidate], *, ask_model: bool
    ) -> tuple[list[Validation], str]:
        """A validation per candidate, in order, and who gave them: `llm` or `heuristic`."""
        validations = [heuristic(query_terms, candidate) for candidate in candidates]
        judged = None
        if ask_model and candidates:
            # Of equal requests at once the first asks; the others then know what it learned.
            async with self._asking.setdefault(query, asyncio.Lock()):
                judged = await self._ask(query, candidates[:MAX_JUDGED])
        if judged is None:
            return validations, "heuristic"
        for index, score in enumerate(judged):
            by_rule = validations[index]
            validations[index] = Validation(
                LLM_WEIGHT * score + (1 - LLM_WEIGHT) * by_rule.score, {**by_rule.factors, "llm": score}
            )
        return validations, "llm"

    async def _ask(self, query: str, candidates: Sequence[Candidate]) -> list[float] | None:
        keys = [_judgement(query, candidate.spec) for candidate in candidates]
        unknown = {
            key: candidate.spec
            for key, candidate in zip(keys, candidates, strict=True)
            if key not in self._judged
        }
        judged = {key: self._judged[key] for key in keys if key in self._judged}
        if unknown:
            if self._failing and self._clock() < self._ask_again_at:
                return None
            try:
                if self._scorer is None:
                    raise ServerUnavailable("there is no API key")
                scores = await self._scorer.scores(query, list(unknown.values()))
            except FederationError as error:
                self._degrade(error)
                return None
            self._failing = False
            fresh = dict(zip(unknown, scores, strict=True))
            judged.update(fresh)
            self._remember(fresh)
        return [judged[key] for key in keys]

    def _remember(self, fresh: dict[bytes, float]) -> None:
        self._judged.update(fresh)
        for key in list(self._judged)[: max(0, len(self._judged) - CACHED_JUDGEMENTS)]:
            del self._judged[key]

    def _degrade(self, error: FederationError) -> None:
        if not self._failing:
            log.warn(
                "llm_validation_degraded",
                message="the heuristic alone validates until a model answers",
                reason=error.message,
            )
        self._failing = True
        self._ask_again_at = self._clock() + LLM_PAUSE


def _judgement(query: str, spec: MCPToolSpec) -> bytes:
    """What a score is remembered by."""
    text = "\0".join((query, spec.name, spec.description))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
