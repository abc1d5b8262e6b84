"""A static encoder: a learned vector and two learned weights for each WordPiece, nothing else at run time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcp_federation.engine.search.wordpiece import WordPiece

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StaticEncoder:
    """Texts as unit vectors: the sum of their pieces' vectors, each by its weight.

    A piece weighs otherwise in a request ("I", "please" weigh next to nothing) than in a document.
    `vectors` (pieces x dimensions) are as stored, `shrink` makes their length 1; the weights include what
    their lengths say. What was computed with weights of another `fingerprint` does not compare.
    """

    pieces: WordPiece
    vectors: NDArray[np.int8]
    shrink: Floats
    request_weights: Floats
    document_weights: Floats
    fingerprint: str = ""

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return int(self.vectors.shape[1])

    def request(self, text: str) -> Floats:
        """The unit vector of a request; zeros where no piece is known."""
        return unit(self.total(self.ids(text), self.request_weights))

    def document(self, text: str) -> Floats:
        """The unit vector of a document; zeros where no piece is known."""
        return unit(self.total(self.ids(text), self.document_weights))

    def ids(self, text: str) -> Ids:
        """The pieces of a text."""
        return np.array(self.pieces.ids(text), dtype=np.int32)

    def total(self, ids: Ids, weights: Floats) -> Floats:
        """The sum of the pieces' vectors, each by its weight."""
        summed: Floats = weights[ids] @ self.units(ids)
        return summed

    def units(self, ids: Ids) -> Floats:
        """The pieces' vectors with length 1 (pieces x dimensions)."""
        rows: Floats = self.vectors[ids].astype(np.float32) * self.shrink[ids, None]
        return rows


def unit(vector: Floats) -> Floats:
    """The vector with length 1; zeros stay zeros."""
    length = np.float32(np.linalg.norm(vector))
    return vector / length if length else vector


@cache
def default_encoder() -> StaticEncoder:
    """The encoder of the weights that come with the package, see `data/README.md`."""
    with as_file(files("mcp_federation.engine.search") / "data" / "encoder.npz") as path:
        return read_encoder(path)


def read_encoder(path: Path) -> StaticEncoder:
    """The encoder of a file of weights that `scripts/train_encoder.py` wrote, over the one vocabulary."""
    vocabulary = files("mcp_federation.engine.search") / "data" / "vocabulary.txt"
    stored = np.load(path)
    return load_encoder(
        vocabulary.read_text(encoding="utf-8").splitlines(),
        stored["vectors"],
        stored["scales"],
        stored["request_weights"],
        stored["document_weights"],
    )


def load_encoder(
    vocabulary: Sequence[str],
    vectors: NDArray[np.int8],
    scales: NDArray[np.float16],
    request_weights: NDArray[np.float16],
    document_weights: NDArray[np.float16],
) -> StaticEncoder:
    """An encoder from stored weights: vectors of int8, each with its scale; weights as logarithms."""
    lengths = np.sqrt(np.square(vectors, dtype=np.int32).sum(axis=1)).astype(np.float32)
    lengths[lengths == 0] = 1
    sizes = lengths * scales.astype(np.float32)
    return StaticEncoder(
        WordPiece(vocabulary),
        vectors,
        1 / lengths,
        sizes * np.exp(request_weights.astype(np.float32)),
        sizes * np.exp(document_weights.astype(np.float32)),
        blake2b(vectors.tobytes() + document_weights.tobytes(), digest_size=16).hexdigest(),
    )
