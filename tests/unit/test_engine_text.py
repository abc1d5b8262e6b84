"""Text into terms: whatever it is, and whatever its script."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.engine.text import MAX_TEXT, name_words, normalise, terms


@given(st.text())
def test_no_text_gives_an_empty_term_or_other_ones_the_second_time(text: str) -> None:
    assert all(terms(text))
    assert terms(text) == terms(text)


@given(st.text())
def test_the_words_of_a_name_have_each_of_its_parts_as_a_whole(name: str) -> None:
    assert set(re.findall(r"\w+", name)) <= set(name_words(name).split())


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
    ("asked", "said"),
    [
        ("天気予報", "東京の天気を調べる"),
        ("今日の天気", "東京の天気を調べる"),
        ("ファイル圧縮", "ファイルを圧縮する"),
        ("погода", "узнать, какая погода"),
        ("火", "火"),
    ],
)
def test_scripts_without_spaces_and_other_alphabets_have_terms_in_common(asked: str, said: str) -> None:
    assert set(terms(asked)) & set(terms(said))


def test_a_huge_text_costs_no_more_than_its_beginning() -> None:
    assert len(terms("word " * MAX_TEXT)) == MAX_TEXT / len("word ")
