"""An inverted index of documents with fields: BM25F."""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Slots = NDArray[np.uint32]

K1 = 2.0
RARITY = 1.2
"""The power of a term's inverse document frequency: in a sentence, the rare words say what is wanted."""
LONGEST = 8.0
"""A field of more averages than this counts no longer than that."""


class Field(NamedTuple):
    """What a field is called, what its words count, how many it has on average, what its length counts."""

    name: str
    boost: float
    average: float
    b: float


FIELDS = (
    Field("name", 2.0, 4.0, 0.75),
    Field("description", 1.0, 18.0, 0.5),
    Field("parameters", 0.8, 20.0, 0.75),
    Field("server", 1.2, 4.0, 0.75),
)
"""The averages are constants, measured over public tools: a changed tool alters no other's weights."""


_WIDTH = 4
"""Bytes of a slot, and of a weight."""


class DumpedWords(NamedTuple):
    """An index as a few long values: the terms, of how many documents each is, and term by term their slots
    (uint32) and weights (float32).
    """

    terms: list[str]
    counts: bytes
    slots: bytes
    weights: bytes


class _Postings:
    """The documents of a term: `slots`, and the term's weight in each."""

    __slots__ = ("slots", "weights")

    def __init__(self, slots: bytes = b"", weights: bytes = b"") -> None:
        self.slots = array("I", slots)
        self.weights = array("f", weights)

    def add(self, slot: int, weight: float) -> None:
        self.slots.append(slot)
        self.weights.append(weight)

    def remove(self, slot: int) -> None:
        """The last one takes its place."""
        place = self.slots.index(slot)
        self.slots[place], self.weights[place] = self.slots[-1], self.weights[-1]
        del self.slots[-1], self.weights[-1]

    def arrays(self) -> tuple[Slots, Floats]:
        """Views, to be let go before the next change."""
        return np.frombuffer(self.slots, dtype=np.uint32), np.frombuffer(self.weights, dtype=np.float32)


class FieldedIndex:
    """Documents by slot. Adding or removing one costs no more than its own words."""

    def __init__(self) -> None:
        self._postings: dict[str, _Postings] = {}
        self._terms: dict[int, tuple[str, ...]] = {}
        self._shared: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._terms)

    def add(self, slot: int, fields: Sequence[Sequence[str]]) -> None:
        """Index the terms of each of `FIELDS` under a slot that is free."""
        counts = [Counter(terms) for terms in fields]
        norms = [
            1 - field.b + field.b * min(len(terms) / field.average, LONGEST)
            for terms, field in zip(fields, FIELDS, strict=True)
        ]
        scaled: dict[str, float] = {}
        for count, norm, field in zip(counts, norms, FIELDS, strict=True):
            for term, times in count.items():
                scaled[term] = scaled.get(term, 0.0) + field.boost * times / norm
        for term, tf in scaled.items():
            postings = self._postings.get(term)
            if postings is None:
                postings = self._postings[term] = _Postings()
            postings.add(slot, tf / (tf + K1))
        # The same string for all documents: a term in each would be most of the memory.
        self._terms[slot] = tuple(self._shared.setdefault(term, term) for term in scaled)

    def remove(self, slot: int) -> None:
        """Forget the slot's document."""
        for term in self._terms.pop(slot, ()):
            postings = self._postings[term]
            postings.remove(slot)
            if not postings.slots:
                del self._postings[term]
                self._shared.pop(term, None)

    def retain(self, slots: NDArray[np.bool_]) -> None:
        """Forget all documents but those of some slots; for many of them, quicker than one by one."""
        for term, postings in list(self._postings.items()):
            found, weights = postings.arrays()
            kept = slots[found]
            if not kept.all():
                del self._postings[term]
                if kept.any():
                    self._postings[term] = _Postings(found[kept].tobytes(), weights[kept].tobytes())
                else:
                    self._shared.pop(term, None)
        self._terms = {slot: terms for slot, terms in self._terms.items() if slots[slot]}

    def dump(self) -> DumpedWords:
        """All of it, for `load`."""
        postings = self._postings.values()
        return DumpedWords(
            list(self._postings),
            array("I", [len(found.slots) for found in postings]).tobytes(),
            b"".join(found.slots for found in postings),
            b"".join(found.weights for found in postings),
        )

    def load(self, dumped: DumpedWords) -> None:
        """Be what was dumped.

        Raises:
            ValueError: the terms and their documents do not fit together.
        """
        counts = array("I", dumped.counts)
        ends = [_WIDTH * end for end in accumulate(counts, initial=0)]
        if len(counts) != len(dumped.terms) or not ends[-1] == len(dumped.slots) == len(dumped.weights):
            raise ValueError("a term has another number of documents than of weights")
        terms: dict[int, list[str]] = {}
        for term, (begin, end) in zip(dumped.terms, pairwise(ends), strict=True):
            postings = _Postings(dumped.slots[begin:end], dumped.weights[begin:end])
            self._postings[term] = postings
            for slot in postings.slots:
                terms.setdefault(slot, []).append(term)
        self._terms = {slot: tuple(found) for slot, found in terms.items()}

    def terms_of(self, slot: int) -> tuple[str, ...]:
        """The distinct terms of the slot's document."""
        return self._terms[slot]

    def idf(self, term: str) -> float:
        """Lucene's inverse document frequency to the power of `RARITY`: positive, the greatest for a term
        that no document has.
        """
        postings = self._postings.get(term)
        return math.pow(self._idf(len(postings.slots) if postings else 0), RARITY)

    def rarity(self, term: str) -> float:
        """The inverse document frequency as a share of the greatest: 1 for a term that no document has."""
        postings = self._postings.get(term)
        return self._idf(len(postings.slots)) / self._idf(0) if postings else 1.0

    def _idf(self, frequency: int) -> float:
        return math.log(1 + (len(self._terms) - frequency + 0.5) / (frequency + 0.5))

    def scores(self, wanted: Mapping[str, float], capacity: int) -> Floats:
        """The BM25F score of each slot under `capacity`; `wanted` are terms with their weights."""
        found = np.zeros(capacity, dtype=np.float32)
        for term, weight in wanted.items():
            postings = self._postings.get(term)
            if postings:
                slots, weights = postings.arrays()
                found[slots] += np.float32(weight * self.idf(term)) * weights
        return found

    def having(self, terms: Sequence[str], slots: NDArray[np.intp], capacity: int) -> Floats:
        """Which of the terms (columns) the documents of some slots (rows) have: 1 or 0."""
        found = np.zeros((len(slots), len(terms)), dtype=np.float32)
        row = np.full(capacity, -1, dtype=np.intp)
        row[slots] = np.arange(len(slots))
        for column, term in enumerate(terms):
            postings = self._postings.get(term)
            if postings:
                rows = row[postings.arrays()[0]]
                found[rows[rows >= 0], column] = 1
        return found
