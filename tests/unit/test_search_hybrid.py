"""The hybrid retriever: words, meaning, clauses and values, and the learned order of what they bring."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.retrieval import Hit
from mcp_federation.engine.search.encoder import default_encoder
from mcp_federation.engine.search.features import FEATURES, encode_request
from mcp_federation.engine.search.hybrid import HybridRetriever, Parts
from mcp_federation.engine.search.ranking import FUSION, Ranking, default_ranking
from mcp_federation.engine.search.request import read_request
from tests.support.search import small_encoder

TOOLS = {
    "packer": ToolDocument("pack", "Pack a file into an archive."),
    "weather": ToolDocument("weather", "The weather of a city.", "city"),
    "mailer": ToolDocument("send", "Send a letter.", server="mail"),
}


def small(parts: Parts | None = None) -> HybridRetriever:
    retriever = HybridRetriever(small_encoder(), parts=parts)
    for key, document in TOOLS.items():
        retriever.add(key, document)
    return retriever


def keys(hits: list[Hit]) -> list[str]:
    return [hit.key for hit in hits]


@pytest.mark.parametrize(
    ("query", "key"),
    [("pack the file", "packer"), ("rain", "weather"), ("zip", "packer"), ("mail", "mailer")],
)
def test_a_tool_is_found_by_its_words_and_by_what_means_alike(query: str, key: str) -> None:
    assert keys(small().search(query, 3))[0] == key


def test_a_hit_tells_why() -> None:
    hit = small().search("pack the zip file", 1)[0]
    assert hit.matched == ("pack", "file")
    assert set(hit.signals) == set(FEATURES)
    assert 0 < hit.signals["covered"] < 1
    assert 0 < hit.similarity < 1


def test_what_shares_neither_word_nor_meaning_is_not_found() -> None:
    assert keys(small().search("rain", 9)) == ["weather"]
    assert small().search("quaternion", 9) == []
    assert small().search("", 9) == []
    assert small().search("rain", 0) == []
    assert HybridRetriever(small_encoder()).search("rain", 9) == []


def test_a_request_for_two_things_finds_a_tool_for_each() -> None:
    assert set(keys(small().search("Send a letter to Anna and also check the rain in the city", 2))) == {
        "mailer",
        "weather",
    }


def test_a_value_does_not_say_what_is_wanted() -> None:
    assert keys(small().search("pack ./weather/city/weather.txt", 1)) == ["packer"]
    assert keys(small().search("please send it with the title 'weather city'", 1)) == ["mailer"]


def test_a_vector_leans_to_the_words_that_tell_tools_apart() -> None:
    retriever = HybridRetriever(small_encoder())
    for place in range(9):
        retriever.add(str(place), ToolDocument("tool", "Pack a file."))
    retriever.add("mailer", ToolDocument("send", "Send a file."))
    encoder = retriever.index.encoder
    asked = encode_request(read_request("send file city"), retriever.index).vectors[0]
    telling, common, foreign = (asked @ encoder.request(word) for word in ("send", "file", "city"))
    assert telling > 2 * common > 0
    assert telling > 1.5 * foreign > 0


def test_a_word_that_requests_of_any_kind_have_says_little() -> None:
    retriever = HybridRetriever(small_encoder())
    retriever.add("advice", ToolDocument("advice", "Help to find new words."))
    retriever.add("packer", ToolDocument("pack", "The zip of a file."))
    weights = encode_request(read_request("help me find a zip"), retriever.index).terms
    assert weights["help"] < 0.7 > weights["find"]
    assert weights["zip"] == 1.0


def test_slight_evidence_stays_slight_though_it_is_the_best() -> None:
    retriever = small()
    retriever.add("sender", ToolDocument("send", "Send a file."))
    words = {query: retriever.search(query, 1)[0].signals["words"] for query in ("file", "pack", "pack pack")}
    assert words["file"] < words["pack"] == words["pack pack"] < 0.5


def test_the_filter_and_the_limit_hold_and_ties_are_broken_by_key() -> None:
    retriever = HybridRetriever(small_encoder())
    for key in "dbca":
        retriever.add(key, ToolDocument("zip", "Zip a file."))
    assert keys(retriever.search("zip", 3)) == ["a", "b", "c"]
    assert keys(retriever.search("zip", 2, lambda key: key > "b")) == ["c", "d"]
    assert len(retriever.search("zip", 1000)) == 4


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (Parts(vectors=False), {"pack": ["packer"], "zip": []}),
        (Parts(words=False), {"zip": ["packer"]}),
        (Parts(learned_order=False), {"zip": ["packer"], "pack": ["packer"]}),
        (Parts(clauses=False, values=False), {"zip": ["packer"]}),
    ],
)
def test_each_part_can_be_left_out(parts: Parts, found: dict[str, list[str]]) -> None:
    for query, expected in found.items():
        assert keys(small(parts).search(query, 9)) == expected


@given(st.text(max_size=300))
@settings(max_examples=40, deadline=None)
def test_any_request_is_answered_in_order_with_similarities_above_0(query: str) -> None:
    hits = small().search(query, 2)
    similarities = [hit.similarity for hit in hits]
    assert similarities == sorted(similarities, reverse=True)
    assert all(0 < similarity < 1 for similarity in similarities)


def test_the_weights_that_come_along_find_what_a_person_would() -> None:
    retriever = HybridRetriever()
    for key, text in {
        "forecast": "Get the weather forecast for a location.",
        "rates": "Convert an amount between currencies at today's exchange rate.",
        "calendar": "Create an event in the calendar.",
        "translate": "Translate text from one language into another.",
    }.items():
        retriever.add(key, ToolDocument(key, text))
    for query, key in {
        "Do I need an umbrella tomorrow?": "forecast",
        "How many dollars do I get for 100 euros?": "rates",
        "Put lunch with Anna on Friday into my schedule": "calendar",
        "How do I say good morning in Spanish?": "translate",
    }.items():
        assert keys(retriever.search(query, 1)) == [key]


def test_a_ranking_weighs_features_and_makes_probabilities_of_scores() -> None:
    rows = np.zeros((2, len(FEATURES)), dtype=np.float32)
    rows[1, FEATURES.index("vector")] = 0.5
    ranking = Ranking(FUSION, slope=2.0, middle=0.5)
    assert ranking.scores(rows).tolist() == [0.0, 0.5]
    assert ranking.probability(0.5) == 0.5
    assert 0 < ranking.probability(-math.inf) < ranking.probability(0) < ranking.probability(math.inf) < 1


def test_a_ranking_over_unknown_features_is_refused() -> None:
    with pytest.raises(ValueError, match="magic"):
        Ranking({"magic": 1.0}, 1.0, 0.0)


def test_what_comes_along_fits_together() -> None:
    assert set(default_ranking().weights) <= set(FEATURES)
    encoder = default_encoder()
    assert len(encoder.vectors) == len(encoder.request_weights) == len(encoder.document_weights)
    assert len(encoder.ids("weather")) == 1
