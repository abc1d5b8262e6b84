"""BERT's uncased WordPiece: text into the ids of a fixed vocabulary. Deterministic, no I/O."""

import re
from collections.abc import Mapping, Sequence

from mcp_federation.engine.text import normalise

_PIECE = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")
_MAX_WORD = 40
_MAX_CACHED = 50_000


class WordPiece:
    """Splits words into the longest known pieces, from the left; what has no piece is left out.

    `vocabulary` are the pieces by id; those inside a word begin with `##`.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._ids: Mapping[str, int] = {piece: place for place, piece in enumerate(vocabulary)}
        self._cache: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> list[int]:
        """The ids of the text's pieces, in order."""
        return [piece for _, pieces in self.words(text) for piece in pieces]

    def words(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        """The words of the text in order, each with the ids of its pieces."""
        return [(word, self._pieces(word)) for word in _PIECE.findall(normalise(text))]

    def _pieces(self, word: str) -> tuple[int, ...]:
        pieces = self._cache.get(word)
        if pieces is None:
            pieces = self._split(word)
            if len(self._cache) < _MAX_CACHED:
                self._cache[word] = pieces
        return pieces

    def _split(self, word: str) -> tuple[int, ...]:
        if len(word) > _MAX_WORD:
            return ()
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                piece = self._ids.get(prefix + word[start:end])
                if piece is not None:
                    pieces.append(piece)
                    start = end
                    break
            else:
                return ()
        return tuple(pieces)
