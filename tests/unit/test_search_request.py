import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.engine.search.request import MAX_CLAUSES, read_request


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
