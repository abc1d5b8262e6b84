"""The registry's tools as they are searched: one document for each tool, however many nodes provide it."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from mcp_federation.engine.documents import tool_document, what_tool
from mcp_federation.engine.retrieval import Hit, Keep, Retriever
from mcp_federation.engine.search.encoders import Floats
from mcp_federation.engine.search.vectors import VectorSearch
from mcp_federation.engine.types import MCPCategory, MCPToolSpec


class Found(NamedTuple):
    """A tool that was found, by its providers, best first: what can be run, by Pareto score, by name."""

    providers: Sequence[MCPToolSpec]
    hit: Hit

    @property
    def spec(self) -> MCPToolSpec:
        """The best provider."""
        return self.providers[0]


class ToolIndex:
    """Searches tools; the document of each is that of the provider that came first."""

    def __init__(self, retriever: Retriever, vectors: VectorSearch | None) -> None:
        self._retriever = retriever
        self._vectors = vectors
        self._tools: dict[str, str] = {}
        self._providers: dict[str, dict[str, MCPToolSpec]] = {}
        self._kept: dict[tuple[MCPCategory | None, bool], set[str]] = {}

    @property
    def names(self) -> Iterable[str]:
        """The names of the specs that are in."""
        return self._tools.keys()

    def put(self, spec: MCPToolSpec) -> None:
        """Have the spec found as it is now."""
        self._kept.clear()
        tool = blake2b(
            "\0".join(what_tool(spec)).encode("utf-8", "surrogatepass"), digest_size=16
        ).hexdigest()
        if self._tools.get(spec.name) != tool:
            self.remove(spec.name)
        self._tools[spec.name] = tool
        self._providers.setdefault(tool, {})[spec.name] = spec
        self._index(tool, spec.name)

    def remove(self, name: str) -> None:
        """Forget the spec; unknown ones are no error. Its tool is found by the other providers."""
        self._kept.clear()
        tool = self._tools.pop(name, None)
        if tool is None:
            return
        providers = self._providers[tool]
        was_first = next(iter(providers)) == name
        del providers[name]
        if not providers:
            del self._providers[tool]
            self._retriever.remove(tool)
            if self._vectors is not None:
                self._vectors.remove(tool)
        elif was_first:
            self._index(tool, next(iter(providers)))

    def save(self) -> None:
        """Keep the index for the next start, where it can be."""
        self._retriever.save()

    async def aclose(self) -> None:
        """End what goes on beside the searches."""
        if self._vectors is not None:
            await self._vectors.stop()

    async def search(self, query: str, wanted: int, category: MCPCategory | None = None) -> list[Found]:
        """The tools that fit best, by similarity: more than are wanted, for what judges them otherwise.

        Where too few of them can be run now, the best of those that can be follow.
        """
        limit = 2 * wanted
        vector = None if self._vectors is None else await self._vectors.encode(query)
        hits = self._hits(query, vector, limit, None if category is None else self._keep(category))
        found = self._found(hits, category)
        if len(hits) == limit and sum(tool.spec.runnable for tool in found) < wanted:
            known = {hit.key for hit in hits}
            living = self._hits(query, vector, limit, self._keep(category, runnable=True))
            found += self._found([hit for hit in living if hit.key not in known], category)
        return found

    def _index(self, tool: str, first: str) -> None:
        """Have the tool found by the document of its first provider, if this is it."""
        provider, spec = next(iter(self._providers[tool].items()))
        if provider == first:
            document = tool_document(spec)
            self._retriever.add(tool, document)
            if self._vectors is not None:
                self._vectors.add(tool, document)

    def _hits(self, query: str, vector: Floats | None, limit: int, keep: Keep | None) -> list[Hit]:
        hits = self._retriever.search(query, limit, keep)
        if self._vectors is None or vector is None:
            return hits
        return self._vectors.merge(vector, hits, limit, keep)

    def _found(self, hits: Iterable[Hit], category: MCPCategory | None) -> list[Found]:
        return [Found(specs, hit) for hit in hits if (specs := self._specs(hit.key, category))]

    def _keep(self, category: MCPCategory | None, *, runnable: bool = False) -> Keep:
        wanted = category, runnable
        if wanted not in self._kept:
            self._kept[wanted] = {
                tool
                for tool, providers in self._providers.items()
                if any(_fits(spec, category, runnable=runnable) for spec in providers.values())
            }
        return self._kept[wanted].__contains__

    def _specs(self, tool: str, category: MCPCategory | None) -> list[MCPToolSpec]:
        """The tool's providers, best first."""
        specs = self._providers.get(tool, {}).values()
        kept = [spec for spec in specs if _fits(spec, category)]
        return sorted(kept, key=lambda spec: (not spec.runnable, -spec.pareto_score, spec.name))


def _fits(spec: MCPToolSpec, category: MCPCategory | None, *, runnable: bool = False) -> bool:
    return (category is None or spec.category == category) and (spec.runnable or not runnable)
