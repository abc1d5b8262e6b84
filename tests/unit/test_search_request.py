import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.search import request as reading
from mcp_federation.engine.search.hybrid import HybridRetriever
from mcp_federation.engine.search.request import MAX_CLAUSES, MAX_REQUEST, read_request


@pytest.mark.parametrize(
    ("text", "intent", "kind"),
    [
        ("Read ./src/main.py now", "Read  file path  now", "file path"),
        ("Read the file /etc/hosts", "Read the file  file path ", "file path"),
        ("Open https://example.org/a?b=c", "Open  url ", "url"),
        ("Write to anna@example.org today", "Write to  email  today", "email"),
        ("Summarise report.pdf please", "Summarise  file  please", "file"),
        ("Click on #submit-btn", "Click on  selector ", "selector"),
        ("Replace 'import os' in all of them", "Replace   in all of them", "quotation"),
    ],
)
def test_values_give_way_to_their_kind(text: str, intent: str, kind: str) -> None:
    request = read_request(text)
    assert request.intent == intent
    assert request.kinds == {kind}
    assert request.values


@pytest.mark.parametrize(
    "text", ["it's what Anna's team wants", "'all of it is quoted here'", "e.g. and/or 3.5"]
)
def test_apostrophes_whole_quotations_and_numbers_are_no_values(text: str) -> None:
    assert read_request(text).values == ""


def test_a_request_for_several_things_has_a_clause_for_each() -> None:
    request = read_request("Find a hotel in Paris and also tell me the weather. Then book a flight.")
    assert any("hotel" in clause and "weather" not in clause for clause in request.clauses)
    assert any("weather" in clause and "hotel" not in clause for clause in request.clauses)


def test_a_request_for_one_thing_has_no_clauses() -> None:
    assert read_request("Find a hotel in Paris").clauses == ()


@given(st.text(max_size=400))
def test_any_text_can_be_taken_apart(text: str) -> None:
    request = read_request(text)
    assert len(request.clauses) <= MAX_CLAUSES
    assert len(request.clauses) != 1


PATTERNS = [reading._QUOTED, reading._SENTENCE, reading._LINK, *(pattern for _, pattern in reading._VALUES)]


@settings(max_examples=30, deadline=None)
@given(st.text("aA1_ \n.-,/\\@#['\"`\u201c\u300c:~;]\u5929\u00e9", min_size=1, max_size=4))
@example("a")
@example(" ")
@example(".")
@example("ab-")
@example("#a[")
@example("a@")
@example(", and ")
def test_no_pattern_takes_more_than_time_in_proportion_to_the_text(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    # In the square of it, a pattern takes minutes, and this runs into the time limit of a test.
    for pattern in PATTERNS:
        assert sum(len(match[0]) for match in pattern.finditer(f"{text}x")) <= len(text) + 1


@pytest.mark.parametrize("unit", ["a", "a b ", "\u5929", "\ufdfa", "e\u0301"])
def test_what_is_beyond_the_length_that_is_read_changes_nothing(unit: str) -> None:
    text = f"  {unit * MAX_REQUEST}"
    assert read_request(text) == read_request(text.strip()[:MAX_REQUEST])
    retriever = HybridRetriever()
    retriever.add("files", ToolDocument("read file", "Read a file"))
    retriever.search(unit * 200_000, 5)  # within the time limit of a test
    retriever.add("long", ToolDocument("long", unit * 1_000_000, unit * 1_000_000))


def test_a_run_of_blanks_is_one() -> None:
    text = "Find a hotel in Paris{0}and also{0}tell me the weather"
    assert read_request(text.format(" \t ")).clauses == read_request(text.format(" ")).clauses != ()
