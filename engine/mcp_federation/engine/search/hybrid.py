"""The retriever: recall by words and by vectors, then a learned order of the best of both."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.retrieval import Hit
from mcp_federation.engine.search.encoder import StaticEncoder, default_encoder
from mcp_federation.engine.search.features import (
    FEATURES,
    WORD_FEATURES,
    Encoding,
    Recall,
    encode_request,
    features,
    recall,
)
from mcp_federation.engine.search.index import Index, encode_document
from mcp_federation.engine.search.ranking import FUSION, Ranking, default_ranking
from mcp_federation.engine.search.request import Request, read_request
from mcp_federation.engine.search.store import load_index, save_index

Floats = NDArray[np.float32]
Slots = NDArray[np.intp]

BY_WORDS = 80
BY_VECTORS = 60
BY_CLAUSE = 10
"""Candidates that each list gives to be ordered, at least."""

FOREIGN = 0.1
"""The cosine up to which a tool that shares no word with the request has nothing to do with it."""

VALUES_SHARE = np.float32(0.2)
"""What a word of a value counts, where candidates are chosen; those of the intent count 1."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Which parts of the pipeline take part; all do, but for an ablation."""

    words: bool = True
    vectors: bool = True
    values: bool = True
    clauses: bool = True
    learned_order: bool = True


class HybridRetriever:
    """Searches tools by words and by meaning. Adding or removing one costs no more than that one.

    Where a `folder` is given, it starts with the index that was saved there: what of that is added before the
    first search costs little, the rest is forgotten then.
    """

    def __init__(
        self,
        encoder: StaticEncoder | None = None,
        ranking: Ranking | None = None,
        parts: Parts | None = None,
        folder: Path | None = None,
    ) -> None:
        self.parts = parts or Parts()
        self._ranking = self._chosen(ranking or default_ranking())
        self._folder = folder
        self._saved: dict[str, bytes] = {}
        encoder = encoder or default_encoder()
        self.index = Index(encoder)
        if folder is not None:
            self.index, self._saved = load_index(folder, encoder)
        self._digests: dict[str, bytes] = dict(self._saved)
        self._unseen = set(self._saved)

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, key: str, document: ToolDocument) -> None:
        """Index the document under the key, in place of what was there; the same one costs little."""
        digest = blake2b(repr(document).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if self._digests.get(key) != digest:
            self.index.add(key, encode_document(document, self.index.encoder))
            self._digests[key] = digest
        self._unseen.discard(key)

    def save(self) -> None:
        """Keep the index for the next start."""
        if self._folder is None:
            return
        self._forget_unseen()
        if self._digests != self._saved:
            save_index(self._folder, self.index, self._digests)
            self._saved = dict(self._digests)

    def remove(self, key: str) -> None:
        """Forget the key; unknown keys are no error."""
        self.index.remove(key)
        self._digests.pop(key, None)
        self._unseen.discard(key)

    def search(self, query: str, limit: int, keep: Callable[[str], bool] | None = None) -> list[Hit]:
        """The best hits among the keys that `keep` accepts, best first; ties by key."""
        self._forget_unseen()
        if not len(self) or limit < 1:
            return []
        encoding = encode_request(self._request(query), self.index)
        found = self._recall(encoding)
        slots = candidates(found, self.index.kept(keep), limit)
        if not len(slots):
            return []
        rows = features(encoding, found, slots, self.index)
        # Equal documents differ in their last bits, by where they stand in the matrix.
        scores = self._ranking.scores(rows).round(5).tolist()
        ranked = sorted(
            (-score, self.index.key(slot), row)
            for row, (score, slot) in enumerate(zip(scores, slots, strict=True))
        )
        return [
            Hit(
                key,
                self._ranking.probability(-score),
                self._matched(encoding, slots[row]),
                dict(zip(FEATURES, rows[row].round(4).tolist(), strict=True)),
            )
            for score, key, row in ranked[:limit]
        ]

    def _forget_unseen(self) -> None:
        """What was loaded and not added since is no tool any longer: it must not take a tool's place."""
        if self._unseen:
            for key in self._unseen:
                del self._digests[key]
            self._unseen.clear()
            self.index.retain(self._digests.keys())

    def _request(self, query: str) -> Request:
        request = read_request(query)
        if not self.parts.values:
            request = Request(query, "", frozenset(), request.clauses)
        if not self.parts.clauses:
            request = Request(request.intent, request.values, request.kinds, ())
        return request

    def _recall(self, encoding: Encoding) -> Recall:
        found = recall(encoding, self.index)
        if not self.parts.words:
            found = Recall(np.zeros_like(found.words), np.zeros_like(found.values), found.vectors)
        if not self.parts.vectors:
            found = Recall(found.words, found.values, np.zeros_like(found.vectors))
        return found

    def _chosen(self, ranking: Ranking) -> Ranking:
        """The ranking without the parts that are left out."""
        weights = dict(ranking.weights if self.parts.learned_order else FUSION)
        if not self.parts.words:
            weights = {name: weight for name, weight in weights.items() if name not in WORD_FEATURES}
        if not self.parts.vectors:
            weights = {name: weight for name, weight in weights.items() if name in WORD_FEATURES}
        return Ranking(weights, ranking.slope, ranking.middle)

    def _matched(self, encoding: Encoding, slot: np.intp) -> tuple[str, ...]:
        having = set(self.index.words.terms_of(int(slot)))
        return tuple(term for term in (*encoding.terms, *encoding.values) if term in having)


def candidates(found: Recall, kept: NDArray[np.bool_], wanted: int) -> Slots:
    """The slots that are among the best by words, by vectors, or for a clause; ascending."""
    chosen = [
        _top(found.words + VALUES_SHARE * found.values, kept, max(BY_WORDS, wanted)),
        _top(found.vectors[:, 0], kept, max(BY_VECTORS, wanted), FOREIGN),
        *(_top(clause, kept, BY_CLAUSE, FOREIGN) for clause in found.vectors[:, 1:].T),
    ]
    return np.unique(np.concatenate(chosen))


def _top(scores: Floats, kept: NDArray[np.bool_], count: int, least: float = 0.0) -> Slots:
    """The slots of the greatest scores above `least`, in no order."""
    eligible = np.flatnonzero(kept & (scores > least))
    if count < len(eligible):
        eligible = eligible[np.argpartition(-scores[eligible], count - 1)[:count]]
    return eligible
