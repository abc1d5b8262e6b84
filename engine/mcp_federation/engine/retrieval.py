"""What a retriever is: an index of tools that a request is searched in."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from mcp_federation.engine.documents import ToolDocument

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
