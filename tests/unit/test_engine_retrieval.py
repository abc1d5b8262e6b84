from collections import Counter

import bm25s
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.retrieval import BM25Retriever, Retriever
from mcp_federation.engine.text import MAX_TEXT, name_words, normalise, terms

WORDS = ("archive", "file", "zip", "mail", "weather", "paris", "commit", "branch", "table", "row")
corpora = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=12)


def filled(texts: dict[str, str]) -> BM25Retriever:
    retriever = BM25Retriever()
    for key, text in texts.items():
        retriever.add(key, ToolDocument("", text))
    return retriever


@given(st.text())
def test_any_text_gives_terms_that_it_gives_again_and_is_found_by(text: str) -> None:
    found = terms(text)
    assert found == terms(text)
    hits = filled({"one": text, "other": "completely different"}).search(text, 2)
    assert ("one" in [hit.key for hit in hits]) == bool(found)


@given(st.text())
def test_any_name_splits_into_words(name: str) -> None:
    assert isinstance(name_words(name), str)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("getUserID", "get User ID getUserID"),
        ("file_operations_mcp", "file operations mcp file_operations_mcp"),
        ("git.git_log", "git git log git_log"),
        ("HTTPServer2", "HTTP Server2 HTTPServer2"),
        ("time", "time"),
        ("__init__", "init __init__"),
        ("…", ""),
    ],
)
def test_names_are_split_on_case_and_punctuation_and_kept_whole(name: str, words: str) -> None:
    assert name_words(name) == words


def test_words_are_stemmed_and_stop_words_left_out() -> None:
    assert terms("Listing the Archived files") == terms("list archive file")
    assert terms("I would like to have that, please") == []


def test_accents_and_case_and_width_do_not_matter() -> None:
    assert terms("CAFÉ") == terms("cafe") == terms("Cafe\u0301")
    assert terms("\uff3a\uff29\uff30") == terms("zip")
    assert terms("STRASSE") == terms("straße")
    assert normalise("한국어") == "한국어"


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("天気予報", "weather"),
        ("今日の天気", "weather"),
        ("ファイル圧縮", "zip"),
        ("погода", "ru"),
        ("火", "fire"),
    ],
)
def test_scripts_without_spaces_and_other_alphabets_are_found(query: str, key: str) -> None:
    retriever = filled(
        {
            "weather": "東京の天気を調べる",
            "zip": "ファイルを圧縮する",
            "ru": "узнать, какая погода",
            "fire": "火",
        }
    )
    assert retriever.search(query, 1)[0].key == key


def test_a_huge_text_costs_no_more_than_its_beginning() -> None:
    assert len(terms("word " * MAX_TEXT)) == MAX_TEXT / len("word ")


def reference(corpus: list[str], query: str) -> list[float]:
    """What bm25s makes of it."""
    model = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    model.index([terms(text) for text in corpus], show_progress=False)
    return [float(score) for score in model.get_scores(terms(query))]


@given(corpora, st.lists(st.sampled_from(WORDS), min_size=1, max_size=5, unique=True))
def test_scores_are_those_of_bm25s(corpus: list[str], words: list[str]) -> None:
    query = " ".join(words)
    if not set(terms(query)) & {term for text in corpus for term in terms(text)}:
        return
    retriever = filled({str(index): text for index, text in enumerate(corpus)})
    scores = retriever.scores(Counter(terms(query)))
    ours = [scores.get(str(index), 0.0) for index in range(len(corpus))]
    assert ours == pytest.approx(reference(corpus, query), abs=1e-5)


@given(corpora, st.lists(st.tuples(st.integers(0, 11), st.sampled_from([*WORDS, ""])), max_size=20))
def test_an_index_after_any_changes_answers_like_one_built_anew(
    corpus: list[str], changes: list[tuple[int, str]]
) -> None:
    texts = {str(index): text for index, text in enumerate(corpus)}
    retriever = filled(texts)
    for index, text in changes:
        key = str(index)
        if text:
            retriever.add(key, ToolDocument("", text))
            texts[key] = text
        else:
            retriever.remove(key)
            texts.pop(key, None)
    fresh = filled(texts)
    assert len(retriever) == len(fresh) == len(texts)
    for word in WORDS:
        assert retriever.search(word, 20) == fresh.search(word, 20)


@given(corpora, st.text() | st.sampled_from(WORDS))
def test_similarity_is_in_the_unit_interval_and_never_rises_down_the_list(
    corpus: list[str], query: str
) -> None:
    hits = filled({str(index): text for index, text in enumerate(corpus)}).search(query, 20)
    similarities = [hit.similarity for hit in hits]
    assert all(0 < similarity <= 1 for similarity in similarities)
    assert similarities == sorted(similarities, reverse=True)


def test_a_tool_that_has_all_that_is_asked_for_is_more_similar_than_one_that_has_half() -> None:
    hits = filled({"all": "unpack zip archive", "half": "unpack parcel today", "none": "weather"}).search(
        "unpack archive", 5
    )
    assert [hit.key for hit in hits] == ["all", "half"]
    assert hits[0].similarity > 2 * hits[1].similarity


def test_words_that_no_tool_knows_lower_the_similarity() -> None:
    retriever = filled({"a": "zip archive", "b": "mail"})
    known = retriever.search("zip archive", 1)[0].similarity
    assert retriever.search("zip archive quaternion", 1)[0].similarity < known


def test_the_limit_and_the_filter_hold_and_ties_are_broken_by_name() -> None:
    retriever: Retriever = filled(dict.fromkeys("dbca", "zip archive"))
    assert [hit.key for hit in retriever.search("zip", 3)] == ["a", "b", "c"]
    assert [hit.key for hit in retriever.search("zip", 2, lambda key: key > "b")] == ["c", "d"]
    assert retriever.search("zip", 0) == []
    assert retriever.search("zip", -1) == []
    assert retriever.search("", 5) == []


def test_an_empty_index_and_empty_texts_find_nothing() -> None:
    assert BM25Retriever().search("anything", 5) == []
    assert filled({"a": "", "b": "the of"}).search("anything", 5) == []
