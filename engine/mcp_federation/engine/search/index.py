"""The tools that can be searched: their words, vectors and pieces, by slot."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.search.encoder import StaticEncoder, unit
from mcp_federation.engine.search.lexical import FieldedIndex
from mcp_federation.engine.text import terms

Floats = NDArray[np.float32]
Pieces = NDArray[np.int32]

NAME_PIECES = 12
SERVER_PIECES = 8
NO_PIECE = -1
COARSE = 64
"""Dimensions of the vectors that candidates are chosen by."""

STEP = np.float32(1 / 254)
"""What the components of a unit vector are kept in whole numbers of; beyond 0.5 they are cut off."""

ARRAYS = ("gists", "wholes", "coarse", "pieces", "servers", "taken", "server_lengths")
"""The attributes of an index that have a row for each slot."""

REST = np.float32(0.3)
"""What a description's pieces count in its vectors after the first sentence: that says what the tool does."""

_FIRST_CAPACITY = 64
_LEAD = 300
_FIRST_SENTENCE = re.compile(r"\s*.{20,}?(?:\.(?=\s|$)|\n\s*\n|[\u3002\uff01\uff1f])", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document made ready for the index: pure work, no index needed."""

    fields: tuple[list[str], ...]
    gist: Floats
    whole: Floats
    pieces: Pieces
    server_length: float
    server: str


def encode_document(document: ToolDocument, encoder: StaticEncoder) -> Encoded:
    """Terms of each field, vectors of name with description (its gist) and of all fields, and the pieces."""
    texts = (document.name, document.description, document.parameters, document.server)
    ids = [encoder.ids(text) for text in (document.name, *parted(document.description), *texts[2:])]
    name, lead, rest, parameters, server = (encoder.total(row, encoder.document_weights) for row in ids)
    gist = name + lead + REST * rest
    return Encoded(
        fields=tuple(terms(text) for text in texts),
        gist=unit(gist),
        whole=unit(gist + parameters + server),
        pieces=np.concatenate([_padded(ids[0], NAME_PIECES), _padded(ids[-1], SERVER_PIECES)]),
        server_length=float(np.linalg.norm(server)) or 1.0,
        server=document.server,
    )


def parted(description: str) -> tuple[str, str]:
    """The first sentence, at most so long, and the rest."""
    found = _FIRST_SENTENCE.match(description[:_LEAD])
    end = found.end() if found else _LEAD
    return description[:end], description[end:]


class Index:
    """Documents by key. Rows of its arrays are slots; a removed key's slot is used again."""

    def __init__(self, encoder: StaticEncoder) -> None:
        self.encoder = encoder
        self.words = FieldedIndex()
        self.slots: dict[str, int] = {}
        self.keys: list[str | None] = []
        self._free: list[int] = []
        self.server_ids: dict[str, int] = {}
        self.gists = np.zeros((0, encoder.dimensions), dtype=np.int8)
        self.wholes = np.zeros((0, encoder.dimensions), dtype=np.int8)
        self.coarse = np.zeros((0, min(COARSE, encoder.dimensions)), dtype=np.float32)
        self.pieces = np.zeros((0, NAME_PIECES + SERVER_PIECES), dtype=np.int32)
        self.servers = np.zeros(0, dtype=np.int32)
        self.taken = np.zeros(0, dtype=np.bool_)
        self.server_lengths = np.zeros(0, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def capacity(self) -> int:
        """Rows of the arrays, free slots included."""
        return len(self.servers)

    def add(self, key: str, document: Encoded) -> None:
        """Put the document in, in place of the key's former one."""
        self.remove(key)
        slot = self._take_slot()
        self.slots[key] = slot
        self.keys[slot] = key
        self.taken[slot] = True
        self.words.add(slot, document.fields)
        self.gists[slot], self.wholes[slot] = _stepped(document.gist), _stepped(document.whole)
        self.coarse[slot] = self.shortened(document.whole)
        self.pieces[slot], self.server_lengths[slot] = document.pieces, document.server_length
        self.servers[slot] = self.server_ids.setdefault(document.server, len(self.server_ids))

    def remove(self, key: str) -> None:
        """Forget the key; unknown keys are no error."""
        if key in self.slots:
            self.words.remove(self._release(key))

    def retain(self, keys: Set[str]) -> None:
        """Forget all other keys."""
        for key in self.slots.keys() - keys:
            self._release(key)
        self.words.retain(self.taken)

    def shortened(self, vector: Floats) -> Floats:
        """The vector's first dimensions, which say most, as a unit vector: enough to choose candidates by."""
        return unit(vector[: self.coarse.shape[1]])

    def key(self, slot: int | np.intp) -> str:
        """The key of a slot that is taken.

        Raises:
            KeyError: it is free.
        """
        key = self.keys[int(slot)]
        if key is None:
            raise KeyError(slot)
        return key

    def kept(self, keep: Callable[[str], bool] | None) -> NDArray[np.bool_]:
        """Which slots hold a key that is accepted."""
        if keep is None:
            return self.taken
        return np.array([key is not None and keep(key) for key in self.keys], dtype=np.bool_)

    def fill(
        self, arrays: Mapping[str, NDArray[Any]], slots: Mapping[str, int], server_ids: Mapping[str, int]
    ) -> None:
        """Be what another index was; its words are filled apart.

        Raises:
            ValueError: the arrays are not those of an index of this encoder.
        """
        capacity = len(arrays["servers"])
        for name in ARRAYS:
            rows, own = arrays[name], getattr(self, name)
            if rows.dtype != own.dtype or rows.shape != (capacity, *own.shape[1:]):
                raise ValueError(f"{name} has another shape")
            setattr(self, name, rows)
        self.slots, self.server_ids = dict(slots), dict(server_ids)
        self.keys = [None] * capacity
        for key, slot in slots.items():
            if not 0 <= slot < capacity:
                raise ValueError("a key stands outside of the arrays")
            self.keys[slot] = key
        self._free = [slot for slot in range(capacity - 1, -1, -1) if self.keys[slot] is None]

    def _release(self, key: str) -> int:
        """Make the key's slot free; its words are forgotten apart."""
        slot = self.slots.pop(key)
        self.keys[slot] = None
        self.taken[slot] = False
        self.coarse[slot] = 0
        self._free.append(slot)
        return slot

    def _take_slot(self) -> int:
        if not self._free:
            old = self.capacity
            new = max(_FIRST_CAPACITY, old + old // 2)
            for array in ARRAYS:
                rows = getattr(self, array)
                setattr(
                    self, array, np.concatenate([rows, np.zeros((new - old, *rows.shape[1:]), rows.dtype)])
                )
            self.keys += [None] * (new - old)
            self._free = list(range(new - 1, old - 1, -1))
        return self._free.pop()


def _stepped(vector: Floats) -> NDArray[np.int8]:
    stepped: NDArray[np.int8] = np.clip(np.rint(vector / STEP), -127, 127).astype(np.int8)
    return stepped


def _padded(ids: Sequence[int] | Pieces, width: int) -> Pieces:
    row = np.full(width, NO_PIECE, dtype=np.int32)
    row[: len(ids)] = ids[:width]
    return row
