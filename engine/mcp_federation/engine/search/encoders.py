"""Encoders of others: sentence-transformers, or an OpenAI-compatible embeddings endpoint, by one setting."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mcp_federation.engine.http import bearer, exchange
from mcp_federation.engine.text import well_formed
from mcp_federation.errors import InvalidRequest, ServerUnavailable

Floats = NDArray[np.float32]

ENCODER_VARIABLE = "MCP_FEDERATION_ENCODER"
KEY_VARIABLE = "MCP_FEDERATION_ENCODER_KEY"
SENTENCE_TRANSFORMERS = "sentence-transformers:"
TIMEOUT = 30.0
"""Seconds for one batch of texts."""

MAX_CHARACTERS = 4_000
_MAX_ANSWER = 64 * 1024 * 1024


class TextEncoder(Protocol):
    """Something that gives a vector for a text."""

    async def encode(self, texts: Sequence[str]) -> Floats:
        """One unit vector per text, in order (texts x dimensions).

        Raises:
            FederationError: it cannot, now.
        """
        ...


class _Embedding(Struct):
    index: int
    embedding: list[float]


class _Embeddings(Struct):
    data: list[_Embedding]


class EmbeddingsEndpoint:
    """`POST {base_url}/embeddings`, as OpenAI and many servers of open models have it."""

    def __init__(self, base_url: str, model: str, key: str | None = None, timeout: float = TIMEOUT) -> None:
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._key = key
        self._timeout = timeout

    async def encode(self, texts: Sequence[str]) -> Floats:
        """Ask the endpoint for the texts' vectors."""
        status, body = await exchange(
            "POST",
            self._url,
            headers=bearer(self._key),
            timeout=self._timeout,
            max_bytes=_MAX_ANSWER,
            body={"model": self._model, "input": _readable(texts)},
            peer="the embeddings endpoint",
        )
        if status != 200:
            raise ServerUnavailable(f"the embeddings endpoint answered {status}")
        try:
            answered = sorted(msgspec.json.decode(body, type=_Embeddings).data, key=lambda row: row.index)
            vectors = np.array([row.embedding for row in answered], dtype=np.float32)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ServerUnavailable("the embeddings endpoint answered no embeddings") from error
        if (
            vectors.ndim != 2
            or not vectors.size
            or len(vectors) != len(texts)
            or not np.isfinite(vectors).all()
        ):
            raise ServerUnavailable("the embeddings endpoint answered no vector for each text")
        return units(vectors)


class SentenceTransformerEncoder:
    """A model of the package `sentence-transformers`, which is not installed by default.

    Raises:
        InvalidRequest: the package or the model is not there.
    """

    def __init__(self, model: str) -> None:
        try:
            # Its import takes seconds and PyTorch; only whoever names it pays for it.
            from sentence_transformers import SentenceTransformer

            self._model: Any = SentenceTransformer(model)
        except (ImportError, OSError, ValueError) as error:
            raise InvalidRequest(f"the encoder {SENTENCE_TRANSFORMERS}{model} cannot be loaded") from error

    async def encode(self, texts: Sequence[str]) -> Floats:
        """Run the model in a thread."""
        vectors = await asyncio.to_thread(self._model.encode, _readable(texts), convert_to_numpy=True)
        return units(np.asarray(vectors, dtype=np.float32))


def configured_encoder(setting: str | None) -> TextEncoder | None:
    """The encoder of a setting, else of the environment (read here); None for the one that comes along.

    `static` (the default), `sentence-transformers:MODEL`, or the base URL of an OpenAI-compatible API with
    the model behind a `#`: `http://127.0.0.1:11434/v1#nomic-embed-text`; the key is that of
    MCP_FEDERATION_ENCODER_KEY.

    Raises:
        InvalidRequest: the setting names no encoder.
    """
    setting = (setting or os.environ.get(ENCODER_VARIABLE) or "static").strip()
    if setting == "static":
        return None
    if setting.startswith(SENTENCE_TRANSFORMERS):
        return SentenceTransformerEncoder(setting.removeprefix(SENTENCE_TRANSFORMERS))
    base_url, _, model = setting.partition("#")
    if base_url.startswith(("http://", "https://")) and model:
        return EmbeddingsEndpoint(base_url, model, os.environ.get(KEY_VARIABLE) or None)
    raise InvalidRequest("an encoder is static, sentence-transformers:MODEL, or an http(s) URL with #MODEL")


def _readable(texts: Sequence[str]) -> list[str]:
    return [well_formed(text[:MAX_CHARACTERS]) for text in texts]


def units(vectors: Floats) -> Floats:
    """The rows as unit vectors; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
