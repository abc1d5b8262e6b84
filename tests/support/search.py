"""A small encoder of its own for tests of the search: words are its pieces, and some words are alike."""

import numpy as np

from mcp_federation.engine.search.encoder import StaticEncoder, load_encoder

ALIKE = (("archive", "zip"), ("weather", "rain"), ("mail", "letter"))
ALONE = ("pack", "unpack", "file", "city", "send", "tool", "the", "a")


def small_encoder() -> StaticEncoder:
    """Two words of a pair have cosine 0.8; any others 0. "the", "a" and "tool" weigh next to nothing."""
    words = [*(word for pair in ALIKE for word in pair), *ALONE]
    vectors = np.zeros((len(words), len(ALIKE) * 2 + len(ALONE)), dtype=np.int8)
    for place, word in enumerate(words):
        vectors[place, place] = 100
        for pair, (one, other) in enumerate(ALIKE):
            if word == other:
                vectors[place] = 0
                vectors[place, words.index(one)] = 80
                vectors[place, 2 * pair + 1] = 60
    weights = np.array([-5.0 if word in ("the", "a", "tool") else 0.0 for word in words], dtype=np.float16)
    return load_encoder(words, vectors, np.full(len(words), 0.01, dtype=np.float16), weights, weights)
