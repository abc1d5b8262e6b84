"""The parts under the retriever: pieces, encoder, fielded words, the index in memory and on disk."""

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mcp_federation.engine.documents import ToolDocument
from mcp_federation.engine.search import store
from mcp_federation.engine.search.encoder import default_encoder
from mcp_federation.engine.search.hybrid import HybridRetriever, Parts
from mcp_federation.engine.search.index import Index, encode_document
from mcp_federation.engine.search.lexical import FIELDS, FieldedIndex
from mcp_federation.engine.search.store import FILE_NAME
from mcp_federation.engine.search.wordpiece import WordPiece
from tests.support.search import small_encoder

WORDS = ("archive", "zip", "weather", "rain", "mail", "file", "city")
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
documents = st.builds(ToolDocument, name=texts, description=texts, parameters=texts, server=texts)
UNRANKED = Parts(learned_order=False)


def test_words_are_split_into_the_longest_pieces_and_unknown_ones_left_out() -> None:
    pieces = WordPiece(["un", "##pack", "##ing", "zip", "-", "##p", "##ack"])
    assert pieces.ids("Unpacking zip-unpack") == [0, 1, 2, 3, 4, 0, 1]
    assert pieces.ids("zipper Ünpäck") == [0, 1]
    assert pieces.ids("x" * 100_000) == []


@given(st.text(max_size=200))
@settings(max_examples=30, deadline=None)
def test_any_text_gives_a_unit_vector_or_zeros(text: str) -> None:
    length = np.linalg.norm(default_encoder().document(text))
    assert length == pytest.approx(1, abs=1e-4) or length == 0


def test_what_means_alike_is_near_and_small_words_hardly_count() -> None:
    encoder = small_encoder()
    assert encoder.request("zip") @ encoder.document("archive") == pytest.approx(0.8, abs=0.01)
    assert encoder.request("the zip") @ encoder.document("a zip") > 0.99
    assert encoder.request("zip") @ encoder.document("weather") == 0


def test_the_encoder_that_comes_along_knows_what_words_mean() -> None:
    encoder = default_encoder()
    asked = encoder.request("will it rain tomorrow?")
    assert asked @ encoder.document("weather forecast") > asked @ encoder.document("currency exchange rates")


def fields(**given: str) -> list[list[str]]:
    return [given.get(field.name, "").split() for field in FIELDS]


def test_a_word_counts_by_its_field_its_rarity_and_the_length_of_the_text() -> None:
    index = FieldedIndex()
    index.add(0, fields(name="zip"))
    index.add(1, fields(parameters="zip"))
    index.add(2, fields(parameters="zip " + "filler " * 50))
    index.add(3, fields(name="mail"))
    zips, mails = (index.scores({term: 1.0}, 4) for term in ("zip", "mail"))
    assert zips[0] > zips[1] > zips[2] > zips[3] == 0
    assert mails[3] > zips[0]
    assert index.having(["zip", "none"], np.array([3, 1]), 4).tolist() == [[0, 0], [1, 0]]


@given(st.lists(st.tuples(st.integers(0, 5), documents | st.none()), max_size=20))
@settings(max_examples=40, deadline=None)
def test_an_index_that_grew_and_shrank_scores_as_one_built_anew(
    changes: list[tuple[int, ToolDocument | None]],
) -> None:
    encoder = small_encoder()
    grown = HybridRetriever(encoder, parts=UNRANKED)
    kept: dict[str, ToolDocument] = {}
    for key, document in changes:
        if document is None:
            grown.remove(str(key))
            kept.pop(str(key), None)
        else:
            grown.add(str(key), document)
            kept[str(key)] = document
    fresh = HybridRetriever(encoder, parts=UNRANKED)
    for name in sorted(kept):
        fresh.add(name, kept[name])
    assert len(grown) == len(fresh) == len(kept)
    for query in ("zip file", "rain in the city"):
        hits, expected = grown.search(query, 9), fresh.search(query, 9)
        assert [hit.key for hit in hits] == [hit.key for hit in expected]
        assert [hit.similarity for hit in hits] == pytest.approx(
            [hit.similarity for hit in expected], abs=1e-4
        )


@pytest.mark.parametrize("end", [". ", "\n\n", "\u3002"])
def test_the_first_sentence_of_a_description_says_what_the_tool_does(end: str) -> None:
    encoder = small_encoder()
    first, later = "Pack an archive, as a zip", "The rain in the city"
    document = encode_document(ToolDocument("tool", f"{first}{end}{later}. {later}."), encoder)
    for vector in (document.gist, document.whole):
        assert vector @ encoder.request("archive") > 2 * (vector @ encoder.request("rain"))
    assert set(document.fields[1]) >= {"archiv", "rain"}


def test_a_slot_that_is_free_has_no_key() -> None:
    index = Index(small_encoder())
    index.add("a", encode_document(ToolDocument("zip", "archive"), index.encoder))
    slot = index.slots["a"]
    assert index.key(slot) == "a"
    index.remove("a")
    with pytest.raises(KeyError):
        index.key(slot)


DOCUMENTS = {
    "packer": ToolDocument("pack", "Pack a file into an archive.", "file the file"),
    "weather": ToolDocument("weather", "The rain of a city.", server="skies"),
}


def filled(folder: Path | None = None) -> HybridRetriever:
    retriever = HybridRetriever(small_encoder(), parts=UNRANKED, folder=folder)
    for key, document in DOCUMENTS.items():
        retriever.add(key, document)
    return retriever


def test_a_start_with_a_saved_index_encodes_no_document_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "new").save()
    anew = filled()
    monkeypatch.delattr("mcp_federation.engine.search.hybrid.encode_document")
    again = filled(tmp_path / "new")
    for query in ("pack a file", "rain", "letter"):
        assert again.search(query, 5) == anew.search(query, 5)


def test_what_is_no_longer_added_after_a_start_is_not_found_and_changes_nothing(tmp_path: Path) -> None:
    before = filled(tmp_path)
    for place in range(100):
        before.add(f"old{place}", ToolDocument(f"pack {place}", "Pack a file and the rain."))
    before.save()
    again = filled(tmp_path)
    for query in ("pack a file", "rain", "letter"):
        assert again.search(query, 2) == filled().search(query, 2)
    again.add("old1", ToolDocument("pack", "Pack a letter."))
    assert again.search("letter", 1)[0].key == "old1"
    again.remove("old1")
    again.save()
    assert len(HybridRetriever(small_encoder(), parts=UNRANKED, folder=tmp_path)) == len(DOCUMENTS)


def test_a_changed_document_replaces_the_saved_one(tmp_path: Path) -> None:
    filled(tmp_path).save()
    again = HybridRetriever(small_encoder(), parts=UNRANKED, folder=tmp_path)
    again.add("packer", ToolDocument("mail", "Send mail."))
    assert [hit.key for hit in again.search("mail", 1)] == ["packer"]
    assert [hit.key for hit in again.search("archive", 5)] == []


@pytest.mark.parametrize("content", [b"", b"\xc1nonsense", b"\x80", b"\x93\x01\x02\x03"])
def test_an_index_that_does_not_read_is_made_anew_and_that_is_logged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with capture_logs() as logs:
        assert filled(tmp_path).search("weather", 1)[0].key == "weather"
    assert [log["event"] for log in logs] == ["index_not_read"]


def test_a_saved_index_that_changed_by_a_bit_or_lost_its_end_is_made_anew(tmp_path: Path) -> None:
    filled(tmp_path).save()
    file = tmp_path / FILE_NAME
    written = file.read_bytes()
    hits = filled().search("pack a file", 5)
    for place in range(0, len(written), 97):
        for content in (
            bytes([*written[:place], written[place] ^ 1, *written[place + 1 :]]),
            written[:place],
        ):
            file.write_bytes(content)
            with capture_logs() as logs:
                assert filled(tmp_path).search("pack a file", 5) == hits
            assert [log["event"] for log in logs] == ["index_not_read"]


def test_a_saving_that_fails_leaves_no_file_behind(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with capture_logs():
        filled(tmp_path).save()
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_an_index_of_other_weights_is_not_used(tmp_path: Path) -> None:
    filled(tmp_path).save()
    assert len(HybridRetriever(default_encoder(), parts=UNRANKED, folder=tmp_path)) == 0


def test_an_index_that_another_version_of_the_code_made_is_made_anew_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(store, "_code", lambda: "older")
        filled(tmp_path).save()
    with capture_logs() as logs:
        again = HybridRetriever(small_encoder(), parts=UNRANKED, folder=tmp_path)
    assert (len(again), logs) == (0, [])
    filled(tmp_path).save()
    assert len(HybridRetriever(small_encoder(), parts=UNRANKED, folder=tmp_path)) == len(DOCUMENTS)


def test_the_code_that_splits_a_text_into_words_tells_one_index_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(str(files("mcp_federation.engine")))
    shutil.copytree(package, tmp_path / "engine", ignore=shutil.ignore_patterns("data", "__pycache__"))
    monkeypatch.setattr(store, "files", lambda _: tmp_path / "engine")
    codes = {store._code.__wrapped__()}
    for module in ("text.py", "search/lexical.py", "search/wordpiece.py"):
        with (tmp_path / "engine" / module).open("a") as file:
            file.write("# changed\n")
        codes.add(store._code.__wrapped__())
    assert len(codes) == 4


def test_a_folder_that_cannot_be_written_costs_the_saving_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as logs:
        filled(tmp_path / "file").save()
    assert {log["event"] for log in logs} == {"index_not_read", "index_not_saved"}
