"""Retrieval: which tools answer to these words."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from heapq import nsmallest
from typing import NamedTuple, Protocol

from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.text import terms

Keep = Callable[[str], bool]


class Hit(NamedTuple):
    """A tool that was found; `similarity` is in (0, 1].

    Why: the `matched` terms of the request, and `signals` in [-1, 1] that made the similarity.
    """

    key: str
    similarity: float
    matched: tuple[str, ...] = ()
    signals: Mapping[str, float] = {}


class Retriever(Protocol):
    """An index of documents by key. Adding or removing one costs no more than that one document."""

    def add(self, key: str, document: ToolDocument) -> None:
        """Index the document under the key, in place of what was there."""
        ...

    def remove(self, key: str) -> None:
        """Forget the key; unknown keys are no error."""
        ...

    def search(self, query: str, limit: int, keep: Keep | None = None) -> list[Hit]:
        """The best hits among the keys that `keep` accepts, best first; ties by key."""
        ...

    def save(self) -> None:
        """Keep the index for the next start, where it can."""
        ...

    def __len__(self) -> int: ...


class BM25Retriever:
    """BM25 (Lucene's variant) over an inverted index.

    Not `bm25s`: its scores are computed ahead for a frozen corpus, so that every added tool costs an
    index of all of them. Here the weights are computed for the words of a query, and what `bm25s` gives
    for the same corpus is what a test compares with.

    Similarity: a word's BM25 weight is idf * tf / (tf + K), with K = k1 at average length; it counts in
    full at 1 / (1 + k1), the share of a word that occurs once in a document of average length. So
    similarity = min(1, (1 + k1) * score / sum of the query's idf): 1 where all that was asked for is
    there, and about the weighted share of the query's words that are.
    """

    def __init__(self, k1: float = 1.5, b: float = 0.75) -> None:
        self._k1 = k1
        self._b = b
        self._postings: dict[str, dict[str, int]] = {}
        self._documents: dict[str, tuple[str, ...]] = {}
        self._lengths: dict[str, int] = {}
        self._total_length = 0

    def __len__(self) -> int:
        return len(self._documents)

    def add(self, key: str, document: ToolDocument) -> None:
        """Index the document under the key, in place of what was there; O(words of the document)."""
        self.remove(key)
        counts = Counter(terms(document.text))
        for term, count in counts.items():
            self._postings.setdefault(term, {})[key] = count
        self._documents[key] = tuple(counts)
        self._lengths[key] = counts.total()
        self._total_length += self._lengths[key]

    def remove(self, key: str) -> None:
        """Forget the key; O(words of its text)."""
        for term in self._documents.pop(key, ()):
            postings = self._postings[term]
            del postings[key]
            if not postings:
                del self._postings[term]
        self._total_length -= self._lengths.pop(key, 0)

    def save(self) -> None:
        """Nothing: it is made anew at each start."""

    def search(self, query: str, limit: int, keep: Keep | None = None) -> list[Hit]:
        """The best hits among the keys that `keep` accepts, best first; ties by key."""
        wanted = Counter(terms(query))
        full = sum(count * self._idf(term) for term, count in wanted.items())
        scores = self.scores(wanted)
        found = scores.items() if keep is None else [item for item in scores.items() if keep(item[0])]
        best = nsmallest(max(0, limit), found, key=lambda item: (-item[1], item[0]))
        return [
            Hit(
                key,
                min(1.0, (1 + self._k1) * score / full),
                tuple(term for term in wanted if key in self._postings.get(term, ())),
            )
            for key, score in best
        ]

    def scores(self, wanted: Counter[str]) -> dict[str, float]:
        """The BM25 score of every document that has any of the terms."""
        scores: dict[str, float] = {}
        get = scores.get
        lengths = self._lengths
        average = self._total_length / len(lengths) if self._total_length else 1.0
        base, slope = self._k1 * (1 - self._b), self._k1 * self._b / average
        for term, count in wanted.items():
            postings = self._postings.get(term)
            if postings:
                weight = count * self._idf(term)
                for key, tf in postings.items():
                    scores[key] = get(key, 0.0) + weight * tf / (tf + base + slope * lengths[key])
        return scores

    def _idf(self, term: str) -> float:
        frequency = len(self._postings.get(term, ()))
        return math.log(1 + (len(self._documents) - frequency + 0.5) / (frequency + 0.5))
