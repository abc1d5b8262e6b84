"""What the order of candidates is learned from: how the words and vectors of each answer to the request."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcp_federation.engine.search.common_words import telling
from mcp_federation.engine.search.encoder import unit
from mcp_federation.engine.search.index import NAME_PIECES, NO_PIECE, STEP, Index
from mcp_federation.engine.search.request import Request
from mcp_federation.engine.text import terms

Floats = NDArray[np.float32]
Slots = NDArray[np.intp]

MAX_TERMS = 40
MAX_PIECES = 48

EVIDENCE = np.float32(20)
"""The BM25F score at which the words have said half of what they can say."""
COMMON = 0.5
"""The power of a word's rarity in the index by which its vector counts in a request."""
UNKNOWN = 0.45
"""What a word's vector counts that no tool has: it is likely a value, "Paris", and not what is asked for."""

FEATURES = (
    "words",  # BM25F, x / (20 + x): slight evidence stays slight, be it the best there is
    "value_words",  # BM25F of the words of the values, x / (1 + x)
    "covered",  # the share of the request's words, by idf, that the document has
    "vector",  # cosine of request and document
    "clause_vector",  # the greatest cosine of a clause with name and description
    "server_vector",  # cosine of request and server
    "asked_by_name",  # how near each piece of the request is to the name's nearest, by weight
)

WORD_FEATURES = frozenset(FEATURES[:3])


@dataclass(frozen=True, slots=True)
class Encoding:
    """A request made ready: weighted terms, and a vector for the whole and for each clause."""

    request: Request
    terms: dict[str, float]
    values: dict[str, float]
    vectors: Floats
    pieces: NDArray[np.int32]
    weights: Floats


def encode_request(request: Request, index: Index) -> Encoding:
    """The terms and vectors of a request."""
    pieces, weights = _weighted(request.intent, index)
    asked = Counter(terms(request.intent))
    values = Counter(terms(request.values))
    return Encoding(
        request,
        {term: telling(term) for term, _ in asked.most_common(MAX_TERMS)},
        {term: 1.0 for term, _ in values.most_common(MAX_TERMS) if term not in asked},
        np.stack([_vector(text, index) for text in (request.intent, *request.clauses)]),
        pieces[:MAX_PIECES],
        weights[:MAX_PIECES],
    )


def _weighted(text: str, index: Index) -> tuple[NDArray[np.int32], Floats]:
    """The pieces of a request with their weights: the encoder's own, times what the word tells here."""
    words = index.encoder.pieces.words(text)
    pieces = np.array([piece for _, found in words for piece in found], dtype=np.int32)
    shares = {word: _told(word, index) for word in dict.fromkeys(word for word, _ in words)}
    told = [shares[word] for word, found in words for _ in found]
    return pieces, index.encoder.request_weights[pieces] * np.array(told, dtype=np.float32)


def _told(word: str, index: Index) -> float:
    """What a word tells of this index's tools, at most 1: little if most have it, or none.

    Of stop words and signs the encoder's own weight says enough.
    """
    stems = terms(word)
    if not stems:
        return 1.0
    rarity = index.words.rarity(stems[0])
    return UNKNOWN if rarity == 1.0 else rarity**COMMON


def _vector(text: str, index: Index) -> Floats:
    pieces, weights = _weighted(text, index)
    return unit(weights @ index.encoder.units(pieces))


@dataclass(frozen=True, slots=True)
class Recall:
    """The scores of all slots: the words', the values' words', and shortened vectors' (slots x texts)."""

    words: Floats
    values: Floats
    vectors: Floats


def recall(encoding: Encoding, index: Index) -> Recall:
    """Score every slot."""
    return Recall(
        index.words.scores(encoding.terms, index.capacity),
        index.words.scores(encoding.values, index.capacity),
        index.coarse @ np.stack([index.shortened(vector) for vector in encoding.vectors]).T,
    )


def features(encoding: Encoding, found: Recall, slots: Slots, index: Index) -> Floats:
    """One row per candidate slot, one column per name of `FEATURES`."""
    words, values = found.words[slots], found.values[slots]
    gists = index.gists[slots] @ (STEP * encoding.vectors.T)
    columns = [
        words / (EVIDENCE + words),
        values / (1 + values),
        _covered(encoding, slots, index),
        index.wholes[slots] @ (STEP * encoding.vectors[0]),
        gists[:, 1:].max(axis=1) if gists.shape[1] > 1 else gists[:, 0],
        *_by_pieces(encoding, slots, index),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _covered(encoding: Encoding, slots: Slots, index: Index) -> Floats:
    asked = list(encoding.terms)
    idf = np.array([index.words.idf(term) * encoding.terms[term] for term in asked], dtype=np.float32)
    share: Floats = index.words.having(asked, slots, index.capacity) @ idf
    return share / np.float32(float(idf.sum()) or 1.0)


def _by_pieces(encoding: Encoding, slots: Slots, index: Index) -> tuple[Floats, Floats]:
    """`server_vector`, and `asked_by_name` by late interaction: each piece meets the most similar one."""
    encoder, asked = index.encoder, encoding.pieces
    if not len(asked):
        return (np.zeros(len(slots), dtype=np.float32),) * 2
    pieces = index.pieces[slots]
    known, place = np.unique(pieces, return_inverse=True)
    place = place.reshape(pieces.shape)
    units = encoder.units(known)
    units[known == NO_PIECE] = 0.0
    cosines = (units @ encoding.vectors[0]) * encoder.document_weights[known]
    servers = cosines[place[:, NAME_PIECES:]].sum(axis=1) / index.server_lengths[slots]
    similar = units @ encoder.units(asked).T
    weights = encoding.weights / encoding.weights.sum()
    return servers, similar[place[:, :NAME_PIECES]].max(axis=1) @ weights
