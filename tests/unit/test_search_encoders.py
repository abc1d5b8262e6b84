"""Encoders of others, against a real HTTP endpoint, and the engine that searches with one."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.documents import ToolDocument, tool_spec
from mcp_federation.engine.rag import RAGMCPEngine
from mcp_federation.engine.retrieval import Hit, Keep
from mcp_federation.engine.search.encoders import (
    ENCODER_VARIABLE,
    KEY_VARIABLE,
    TIMEOUT,
    EmbeddingsEndpoint,
    Floats,
    configured_encoder,
)
from mcp_federation.engine.search.vectors import BATCH, PAUSE, VectorSearch
from mcp_federation.errors import FederationError, InvalidRequest
from tests.support.http_peer import HttpPeer, never, refused_url
from tests.support.waiting import eventually

ROUTE = "POST /v1/embeddings"
TOPICS = {"heaven": 0, "meteorology": 0, "letter": 1, "correspondence": 1}


async def by_topic(request: web.Request) -> web.StreamResponse:
    """An endpoint to which words of one topic mean the same; it answers in no particular order."""
    asked = (await request.json())["input"]
    data = []
    for index, text in enumerate(asked):
        vector = [0.1, 0.1, 1.0]
        for word, topic in TOPICS.items():
            if word in text.lower():
                vector[topic] = 5.0
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return web.json_response({"object": "list", "data": data[::-1]})


def answer(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}


async def test_an_endpoint_gets_the_texts_the_model_and_the_key_and_gives_unit_vectors() -> None:
    with HttpPeer({ROUTE: by_topic}) as peer:
        encoder = EmbeddingsEndpoint(f"{peer.url}/v1/", "some/model", "secret")
        vectors = await encoder.encode(["a letter", "heaven"])
        [seen] = peer.seen
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])
    assert (vectors.argmax(axis=1) == [1, 0]).all()
    assert seen.authorization == "Bearer secret"
    assert json.loads(seen.body)["model"] == "some/model"


@pytest.mark.parametrize(
    "found",
    [
        {"data": []},
        {"data": "none"},
        answer([1.0], [1.0]),
        answer([]),
        answer(["one"]),
        answer([1e999]),
        ["nonsense"],
    ],
)
async def test_an_answer_that_is_no_vectors_is_an_error(found: Any) -> None:
    with HttpPeer({ROUTE: found}) as peer, pytest.raises(FederationError):
        await EmbeddingsEndpoint(f"{peer.url}/v1", "model").encode(["text"])


async def test_an_endpoint_that_refuses_or_is_silent_is_an_error() -> None:
    with HttpPeer({ROUTE: never}) as peer:
        with pytest.raises(FederationError, match="404"):
            await EmbeddingsEndpoint(peer.url, "model").encode(["text"])
        with pytest.raises(FederationError, match="no answer"):
            await EmbeddingsEndpoint(f"{peer.url}/v1", "model", timeout=0.05).encode(["text"])


def test_one_setting_names_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENCODER_VARIABLE, raising=False)
    assert configured_encoder(None) is configured_encoder("static") is None
    assert isinstance(configured_encoder("http://127.0.0.1:1/v1#model"), EmbeddingsEndpoint)
    monkeypatch.setenv(ENCODER_VARIABLE, "https://example.org/v1#model")
    assert isinstance(configured_encoder(None), EmbeddingsEndpoint)


@pytest.mark.parametrize("setting", ["magic", "http://127.0.0.1/v1", "sentence-transformers:/no/such/model"])
def test_a_setting_that_names_no_encoder_is_refused(setting: str) -> None:
    with pytest.raises(InvalidRequest, match="encoder"):
        configured_encoder(setting)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def merged(search: VectorSearch, query: str, hits: list[Hit], keep: Keep | None = None) -> list[Hit]:
    vector = await search.encode(query)
    return hits if vector is None else search.merge(vector, hits, 5, keep)


async def test_each_changed_document_is_encoded_once_and_in_batches() -> None:
    with HttpPeer({ROUTE: by_topic}) as peer:
        search = VectorSearch(EmbeddingsEndpoint(f"{peer.url}/v1", "model"))

        async def asked() -> list[int]:
            before = len(peer.seen)
            await search.encode("heaven")
            return [len(json.loads(seen.body)["input"]) for seen in peer.seen[before:]]

        for place in range(BATCH + 1):
            search.add(str(place), ToolDocument(f"tool {place}", "heaven"))
        assert await asked() == [BATCH, 1, 1]
        search.add("0", ToolDocument("tool 0", "heaven"))
        assert await asked() == [1]
        search.add("0", ToolDocument("tool 0", "letter"))
        assert await asked() == [1, 1]


async def test_a_tool_that_was_removed_or_is_not_kept_is_not_found() -> None:
    with HttpPeer({ROUTE: by_topic}) as peer:
        search = VectorSearch(EmbeddingsEndpoint(f"{peer.url}/v1", "model"))
        for key in "abc":
            search.add(key, ToolDocument(key, "heaven"))
        search.remove("a")
        assert [hit.key for hit in await merged(search, "meteorology", [], lambda key: key != "b")] == ["c"]


async def test_an_encoder_that_fails_leaves_the_hits_is_logged_once_and_asked_again_later() -> None:
    clock = Clock()
    hits = [Hit("a", 0.5)]
    with HttpPeer({}) as peer, capture_logs() as logs:
        search = VectorSearch(EmbeddingsEndpoint(f"{peer.url}/v1", "model"), clock)
        search.add("b", ToolDocument("b", "heaven"))
        for _ in range(3):
            assert await merged(search, "heaven", hits) == hits
        assert len(peer.seen) == 1
        peer.routes[ROUTE] = by_topic
        clock.now = PAUSE
        assert {hit.key for hit in await merged(search, "heaven", hits)} == {"a", "b"}
    assert [log["event"] for log in logs] == ["encoder_degraded"]


class Lengths:
    """Vectors as long as it says; the second number is for single texts."""

    def __init__(self, many: int, one: int) -> None:
        self.many, self.one, self.asked = many, one, 0

    async def encode(self, texts: Sequence[str]) -> Floats:
        self.asked += len(texts)
        return np.ones((len(texts), self.one if len(texts) == 1 else self.many), dtype=np.float32)


class Alternating(Lengths):
    async def encode(self, texts: Sequence[str]) -> Floats:
        self.many = 17 - self.many
        return await super().encode(texts)


async def test_an_encoder_that_answers_with_other_vectors_than_before_has_the_tools_encoded_anew() -> None:
    clock, encoder = Clock(), Lengths(8, 8)
    with capture_logs() as logs:
        search = VectorSearch(encoder, clock)
        for place in range(3 * BATCH):
            search.add(str(place), ToolDocument(f"tool {place}", "heaven"))
        assert len(await merged(search, "heaven", [])) == 5
        encoder.many = encoder.one = 16
        assert await merged(search, "heaven", []) == []
        clock.now = PAUSE
        assert len(await merged(search, "heaven", [])) == 5
    assert [log["event"] for log in logs] == ["encoder_degraded"]


async def test_an_encoder_that_never_answers_alike_is_done_without_and_not_asked_without_end() -> None:
    for encoder in (Lengths(8, 16), Alternating(8, 8)):
        clock = Clock()
        search = VectorSearch(encoder, clock)
        for place in range(3 * BATCH):
            search.add(str(place), ToolDocument(f"tool {place}", "heaven"))
        for _ in range(4):
            assert await merged(search, "heaven", []) == []
            clock.now += PAUSE
        assert encoder.asked <= 12 * BATCH


def engine(url: str) -> RAGMCPEngine:
    made = RAGMCPEngine(enable_llm_validation=False, encoder=f"{url}#model")
    made.pareto_registry = ParetoMCPRegistry(
        tool_spec(name, "acme", description=text)
        for name, text in (("sky", "What heaven has in store"), ("post", "Write a letter"), ("bread", "Bake"))
    )
    return made


async def test_the_engine_finds_by_another_encoder_what_shares_no_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with HttpPeer({ROUTE: by_topic}) as peer:
        result = await engine(f"{peer.url}/v1").execute_rag_mcp_pipeline("correspondence")
        assert peer.seen[0].authorization == "Bearer secret"
    assert result.retrieved_mcps[0].mcp_spec.name == "post@acme"
    assert result.retrieved_mcps[0].ranking_factors["encoder"] == 1.0
    assert result.pipeline_metadata["searched_by"] == "encoder"


async def test_the_engine_searches_by_words_while_the_encoder_is_down() -> None:
    with capture_logs() as logs:
        result = await engine(refused_url()).execute_rag_mcp_pipeline("write a letter")
    assert result.retrieved_mcps[0].mcp_spec.name == "post@acme"
    assert "encoder_degraded" in [log["event"] for log in logs]


async def test_a_request_waits_a_moment_for_an_encoder_that_hangs_and_then_does_without_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_federation.engine.search.vectors.PATIENCE", 0.05)
    with HttpPeer({ROUTE: never}) as peer, capture_logs() as logs:
        made = engine(f"{peer.url}/v1")
        async with asyncio.timeout(TIMEOUT / 2):
            for _ in range(3):
                result = await made.execute_rag_mcp_pipeline("write a letter")
        await made.aclose()
        assert len(peer.seen) == 1
    assert result.retrieved_mcps[0].mcp_spec.name == "post@acme"
    assert result.pipeline_metadata["searched_by"] == "built_in"
    assert "encoder_degraded" in [log["event"] for log in logs]


async def test_the_tools_are_encoded_beside_the_requests_that_did_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_federation.engine.search.vectors.PATIENCE", 0.1)
    clock, free = Clock(), threading.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.to_thread(free.wait)
        return await by_topic(request)

    with HttpPeer({ROUTE: slow}) as peer:
        search = VectorSearch(EmbeddingsEndpoint(f"{peer.url}/v1", "model"), clock)
        search.add("a", ToolDocument("a tool", "heaven"))
        assert await merged(search, "heaven", []) == []
        free.set()

        async def is_found() -> bool:
            clock.now += PAUSE
            return [hit.key for hit in await merged(search, "heaven", [])] == ["a"]

        await eventually(is_found)
        assert len([seen for seen in peer.seen if "a tool" in seen.body]) == 1
