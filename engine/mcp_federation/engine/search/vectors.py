"""Vectors of tools by an encoder of another's, beside the retriever's own search."""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from mcp_federation.bus.handling import stop_task
from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.retrieval import Hit, Keep
from mcp_federation.engine.search.encoders import Floats, TextEncoder
from mcp_federation.errors import FederationError, ServerUnavailable
from mcp_federation.logs import get_logger

log = get_logger("engine")

BATCH = 64
"""Texts that the encoder gets at a time."""

PATIENCE = 2.0
"""Seconds that a request waits for the encoder; what is left to encode of the tools goes on meanwhile."""

PAUSE = 30.0
"""Seconds that one that failed or was slow is left alone, so that not every request waits for it."""

UNLIKE = "its vectors have another length than before"

SHARE = 0.5
"""The vectors' share of the similarity; the rest is the retriever's."""


class VectorSearch:
    """Similarity by an encoder. While it fails or is slow, logged once, the retriever's hits stand."""

    def __init__(self, encoder: TextEncoder, clock: Callable[[], float] = time.monotonic) -> None:
        self._encoder = encoder
        self._clock = clock
        self._filling: asyncio.Task[bool] | None = None
        self._texts: dict[str, str] = {}
        self._stale: dict[str, None] = {}
        self._rows: dict[str, Floats] = {}
        self._matrix: tuple[list[str], Floats] | None = None
        self._failing = False
        self._ask_again_at = 0.0

    def add(self, key: str, document: ToolDocument) -> None:
        """Have the document's vector before the next search; one that did not change keeps its own."""
        text = f"{document.name}: {document.description}\n{document.server}\n{document.parameters}"
        if self._texts.get(key) != text:
            self._texts[key] = text
            self._stale[key] = None

    def remove(self, key: str) -> None:
        """Forget the key."""
        self._texts.pop(key, None)
        self._stale.pop(key, None)
        self._rows.pop(key, None)
        self._matrix = None

    async def encode(self, query: str) -> Floats | None:
        """The request's vector, once the tools have theirs; None while the encoder fails or is slow."""
        if self._failing and self._clock() < self._ask_again_at:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                if not await asyncio.shield(self._fill()):
                    return None
                vector: Floats = (await self._encoder.encode([query]))[0]
                self._compare(vector)
        except TimeoutError:
            self._degrade(f"no vectors within {PATIENCE:g} s")
            return None
        except FederationError as error:
            self._degrade(error.message)
            return None
        self._failing = False
        return vector

    def merge(self, vector: Floats, hits: Sequence[Hit], limit: int, keep: Keep | None) -> list[Hit]:
        """The hits and the nearest tools to the vector, the best `limit` of both, best first; ties by key.

        A similarity is half the retriever's and half the cosine, scaled so that the index's mean is 0 and
        the nearest tool 1.
        """
        if not self._rows:
            return list(hits)[:limit]
        if self._matrix is None:
            self._matrix = list(self._rows), np.stack(list(self._rows.values()))
        keys, rows = self._matrix
        cosines = rows @ vector
        mean, best = float(cosines.mean()), float(cosines.max())
        scaled = np.clip((cosines - mean) / max(best - mean, 1e-6), 0, 1)
        found = {hit.key: hit for hit in hits}
        nearest = (place for place in np.argsort(-scaled, kind="stable") if keep is None or keep(keys[place]))
        near = {keys[place]: float(scaled[place]) for place in islice(nearest, 2 * limit)}
        near |= {key: float(scaled[place]) for place, key in enumerate(keys) if key in found}
        merged = [_merged(found.get(key) or Hit(key, 0.0), near.get(key, 0.0)) for key in {**found, **near}]
        merged.sort(key=lambda hit: (-hit.similarity, hit.key))
        return merged[:limit]

    async def stop(self) -> None:
        """Encode no more of the tools until the next request."""
        filling, self._filling = self._filling, None
        if filling is not None and filling.get_loop() is asyncio.get_running_loop():
            await stop_task(filling)

    def _fill(self) -> "asyncio.Task[bool]":
        """The task that encodes the tools; it outlives the request that began it."""
        loop, filling = asyncio.get_running_loop(), self._filling
        if filling is None or filling.done() or filling.get_loop() is not loop:
            filling = self._filling = loop.create_task(self._encode_tools())
        return filling

    async def _encode_tools(self) -> bool:
        """Whether all of them are encoded."""
        changes = 0
        try:
            while self._stale:
                keys = list(self._stale)[:BATCH]
                texts = [self._texts[key] for key in keys]
                vectors = await self._encoder.encode(texts)
                if self._dimensions not in (None, vectors.shape[1]):
                    # Another model answers now. One that never answers alike is not asked without end.
                    changes += 1
                    if changes > 1:
                        raise ServerUnavailable(UNLIKE)
                    self._rows.clear()
                    self._stale.update(dict.fromkeys(self._texts))
                self._take(keys, texts, vectors)
        except FederationError as error:
            self._degrade(error.message)
            return False
        return True

    @property
    def _dimensions(self) -> int | None:
        return next((len(row) for row in self._rows.values()), None)

    def _compare(self, vector: Floats) -> None:
        """Have some of the tools encoded anew where a request's vector does not compare with theirs.

        Raises:
            ServerUnavailable: it does not.
        """
        if self._dimensions not in (None, len(vector)):
            self._stale.update(dict.fromkeys(list(self._rows)[:BATCH]))
            raise ServerUnavailable(UNLIKE)

    def _degrade(self, reason: str) -> None:
        if not self._failing:
            log.warn("encoder_degraded", message="the search does without its vectors", reason=reason)
        self._failing, self._ask_again_at = True, self._clock() + PAUSE

    def _take(self, keys: Sequence[str], texts: Sequence[str], vectors: Floats) -> None:
        for key, text, vector in zip(keys, texts, vectors, strict=True):
            if self._texts.get(key) == text:  # it may have changed or gone while the encoder worked
                self._rows[key] = vector
                self._stale.pop(key, None)
        self._matrix = None


def _merged(hit: Hit, near: float) -> Hit:
    similarity = max(1e-6, (1 - SHARE) * hit.similarity + SHARE * near)
    return hit._replace(similarity=similarity, signals={**hit.signals, "encoder": near})
