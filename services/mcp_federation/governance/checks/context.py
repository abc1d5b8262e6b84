"""What is published already, for the checks that judge a registration against the whole catalog. Pure.

Who holds a replica of the catalog keeps a view up to date by `put` and `drop`. Look-ups cost about the
same in a catalog of ten tools and of a hundred thousand.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from zlib import crc32

from mcp_federation.governance.detector.plain import plain, skeleton, spelling

SKETCH: Final = 8
"""Hashes kept of a description: two that share none of them are taken to have little in common."""

MAX_CANDIDATES: Final = 32
"""The most tools compared for each of those hashes; a description that thousands share is found anyway."""

MIN_SAME_TOOL: Final = 0.3
"""What two versions of one tool have in common; two tools that only share a name have next to nothing."""

_WORD = re.compile(r"\w+")
_SHINGLE = 3

Key = tuple[str, str]
"""Node and local name."""

Owned = tuple[str, str]
"""A node, and a name that it has: its own, or that of a tool or a server of its."""

Value = TypeVar("Value", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Published:
    """A published tool, as far as the checks need to know it."""

    node: str
    name: str
    server: str = ""
    title: str = ""
    description: str = ""

    @property
    def bare_name(self) -> str:
        """The name that the server itself gives the tool, without the server's before it."""
        return bare_name(self.name, self.server)


class CatalogView:
    """The published tools by name, by look and by description. Empty at first.

    Reading it in one thread while another changes it is safe, and sees the change or does not.
    """

    def __init__(self, tools: Iterable[Published] = ()) -> None:
        self._tools: dict[Key, Published] = {}
        self._by_full_name = _Index[str](lambda tool: [tool.name])
        self._by_spelling = _Index[str](lambda tool: [spelling(tool.name)])
        self._by_name = _Index[str](lambda tool: [tool.bare_name])
        self._by_hash = _Index[int](lambda tool: _sketch(_shingles(tool.description)))
        self._names = _Looks(lambda tool: tool.bare_name)
        self._servers = _Looks(lambda tool: tool.server)
        self._nodes = _Looks(lambda tool: tool.node)
        self._indexes = (
            self._by_full_name,
            self._by_spelling,
            self._by_name,
            self._by_hash,
            self._names,
            self._servers,
            self._nodes,
        )
        for tool in tools:
            self.put(tool)

    def __len__(self) -> int:
        return len(self._tools)

    def put(self, tool: Published) -> None:
        """Have this tool in place of what the node published under its name before."""
        self.drop(tool.node, tool.name)
        self._tools[tool.node, tool.name] = tool
        for index in self._indexes:
            index.add(tool)

    def drop(self, node: str, name: str) -> None:
        """Forget what the node published under the name, if anything."""
        tool = self._tools.pop((node, name), None)
        if tool is not None:
            for index in self._indexes:
                index.remove(tool)

    def named(self, name: str) -> Sequence[Published]:
        """The tools of this name, their servers' names before it, on any node."""
        return self._by_full_name.get(name)

    def spelled_like(self, name: str) -> Sequence[Published]:
        """The tools of this name, their servers' names before it, whatever the case and the separators."""
        return self._by_spelling.get(spelling(name))

    def called(self, bare_name: str) -> Sequence[Published]:
        """The tools that their servers call so, on any node."""
        return self._by_name.get(bare_name)

    def names_like(self, bare_name: str) -> frozenset[Owned]:
        """The names of tools, without their servers', that look like this one, itself among them."""
        return self._names.like(bare_name)

    def servers_like(self, server: str) -> frozenset[Owned]:
        """The names of servers with published tools that look like this one, itself among them."""
        return self._servers.like(server)

    def nodes_like(self, node: str) -> frozenset[Owned]:
        """The names of nodes with published tools that look like this one, itself among them."""
        return self._nodes.like(node)

    def described_like(self, description: str) -> Iterator[tuple[Published, float]]:
        """Tools with phrases of the same description; how many of them, as a Jaccard index in [0, 1]."""
        shingles = _shingles(description)
        seen: set[Key] = set()
        for value in _sketch(shingles):
            for tool in self._by_hash.get(value)[:MAX_CANDIDATES]:
                key = (tool.node, tool.name)
                if key not in seen:
                    seen.add(key)
                    yield tool, _jaccard(shingles, _shingles(tool.description))


class _Index(Generic[Value]):
    """Tools by some values of theirs; each entry is replaced whole, so that a reader never sees it change."""

    def __init__(self, values: Callable[[Published], Iterable[Value]]) -> None:
        self._values = values
        self._tools: dict[Value, tuple[Published, ...]] = {}

    def add(self, tool: Published) -> None:
        for value in set(self._values(tool)):
            self._tools[value] = (*self._tools.get(value, ()), tool)

    def remove(self, tool: Published) -> None:
        for value in set(self._values(tool)):
            left = tuple(each for each in self._tools.get(value, ()) if each is not tool)
            if left:
                self._tools[value] = left
            else:
                self._tools.pop(value, None)

    def get(self, value: Value) -> tuple[Published, ...]:
        return self._tools.get(value, ())


class _Looks:
    """Names that nodes have by their look; the thousand tools of one server cost no more than one does."""

    def __init__(self, name: Callable[[Published], str]) -> None:
        self._name = name
        self._tools: Counter[Owned] = Counter()
        self._by_look: dict[str, frozenset[Owned]] = {}

    def add(self, tool: Published) -> None:
        owned = (tool.node, self._name(tool))
        self._tools[owned] += 1
        if self._tools[owned] == 1:
            look = skeleton(owned[1])
            self._by_look[look] = self._by_look.get(look, frozenset()) | {owned}

    def remove(self, tool: Published) -> None:
        owned = (tool.node, self._name(tool))
        self._tools[owned] -= 1
        if not self._tools[owned]:
            del self._tools[owned]
            look = skeleton(owned[1])
            left = self._by_look.pop(look) - {owned}
            if left:
                self._by_look[look] = left

    def like(self, name: str) -> frozenset[Owned]:
        return self._by_look.get(skeleton(name), frozenset()) if name and self._by_look else frozenset()


def bare_name(name: str, server: str) -> str:
    """A local name without its server's name before it."""
    return name.removeprefix(f"{server}.") or name


def resemblance(description: str, other: str) -> float:
    """How many of the phrases of two descriptions are in both, as a Jaccard index in [0, 1]."""
    return _jaccard(_shingles(description), _shingles(other))


def _jaccard(shingles: frozenset[tuple[str, ...]], others: frozenset[tuple[str, ...]]) -> float:
    either = shingles | others
    return len(shingles & others) / len(either) if either else 1.0


def _shingles(description: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(plain(description).lower())
    return frozenset(
        tuple(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1)) if words
    )


def _sketch(shingles: frozenset[tuple[str, ...]]) -> list[int]:
    """The smallest hashes: sets with a Jaccard index of s share their smallest one s of the time."""
    return sorted(crc32(" ".join(shingle).encode("utf-8", "replace")) for shingle in shingles)[:SKETCH]
