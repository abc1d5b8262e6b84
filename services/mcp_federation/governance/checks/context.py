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

from mcp_federation.governance.detector.plain import plain, skeleton

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
        self._by_name = _Index[str](lambda tool: [tool.bare_name])
        self._by_look = _Index[str](lambda tool: [skeleton(tool.bare_name)])
        self._by_server = _Index[str](lambda tool: [skeleton(tool.server)] if tool.server else [])
        self._by_hash = _Index[int](lambda tool: _sketch(_shingles(tool.description)))
        self._indexes = (self._by_full_name, self._by_name, self._by_look, self._by_server, self._by_hash)
        self._nodes: Counter[str] = Counter()
        self._by_node_look: dict[str, frozenset[str]] = {}
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
        self._nodes[tool.node] += 1
        if self._nodes[tool.node] == 1:
            look = skeleton(tool.node)
            self._by_node_look[look] = self.nodes_like(tool.node) | {tool.node}

    def drop(self, node: str, name: str) -> None:
        """Forget what the node published under the name, if anything."""
        tool = self._tools.pop((node, name), None)
        if tool is not None:
            for index in self._indexes:
                index.remove(tool)
            self._nodes[node] -= 1
            if not self._nodes[node]:
                self._by_node_look[skeleton(node)] = self.nodes_like(node) - {node}

    def named(self, name: str) -> Sequence[Published]:
        """The tools of this name, their servers' names before it, on any node."""
        return self._by_full_name.get(name)

    def called(self, bare_name: str) -> Sequence[Published]:
        """The tools that their servers call so, on any node."""
        return self._by_name.get(bare_name)

    def looking_like(self, bare_name: str) -> Sequence[Published]:
        """The tools whose name looks like this one at a glance, the same name among them."""
        return self._by_look.get(skeleton(bare_name))

    def of_servers_like(self, server: str) -> Sequence[Published]:
        """The tools of servers whose name looks like this one, the same name among them."""
        return self._by_server.get(skeleton(server))

    def nodes_like(self, node: str) -> frozenset[str]:
        """The nodes with published tools whose name looks like this one, the same name among them."""
        return self._by_node_look.get(skeleton(node), frozenset())

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
            left = tuple(each for each in self._tools.get(value, ()) if each != tool)
            if left:
                self._tools[value] = left
            else:
                self._tools.pop(value, None)

    def get(self, value: Value) -> tuple[Published, ...]:
        return self._tools.get(value, ())


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
