import ast
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError

from mcp_federation.toolbox import bundled, text_processing, text_worker
from mcp_federation.toolbox.text_processing import change_case, check_json, make_text_processing, truncate

TEXT = "Hello World. Is this Ada?"


async def call(operation: str, text: str, deadline: float = 10, **arguments: Any) -> dict[str, Any]:
    async with Client(make_text_processing(deadline)) as client:
        result = await client.call_tool(
            "text_processing_mcp", {"operation": operation, "text": text} | arguments
        )
    if result.is_error:
        raise ToolError(result.content[0].text)  # type: ignore[union-attr]  # errors are text
    assert result.structured_content is not None
    return dict(result.structured_content)


def work(operation: str, text: str, **arguments: Any) -> dict[str, Any]:
    request = {"operation": operation, "text": text, "pattern": "", "replacement": "", "regex": False}
    request |= {"ignore_case": False, "other_text": "", "kind": "emails", "limit": 100}
    return dict(text_worker.work(request | arguments))


async def test_the_tool_says_that_it_only_reads_and_can_be_repeated(tmp_path: Path) -> None:
    async with Client(bundled(tmp_path)["text_processing_mcp"]) as client:
        (tool,) = (await client.list_tools()).tools
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint is True
    assert tool.annotations.idempotent_hint is True
    assert list(tool.input_schema["properties"])[:2] == ["operation", "text"]
    assert all(field.get("description") for field in tool.input_schema["properties"].values())


async def test_statistics_count_what_a_reader_would() -> None:
    found = await call("statistics", "Héllo there, don't go. Really?\nYes!\n\nA new part.\n")
    assert found == {
        "operation": "statistics",
        "characters": 49,
        "bytes": 50,
        "words": 9,
        "lines": 4,
        "sentences": 4,
        "paragraphs": 2,
    }
    empty = await call("statistics", "")
    assert {empty[key] for key in ("characters", "words", "lines", "sentences", "paragraphs")} == {0}


async def test_search_finds_literal_text_and_says_where() -> None:
    found = await call("search", "a.b\naxb a.b", pattern="a.b")
    assert [(match["line"], match["column"], match["start"]) for match in found["matches"]] == [
        (1, 1, 0),
        (2, 5, 8),
    ]
    assert found["truncated"] is False


async def test_search_finds_patterns_with_their_groups() -> None:
    found = await call("search", "\nKey=1", pattern=r"(key)=(\d)(x)?", regex=True, ignore_case=True)
    assert found["matches"] == [
        {"text": "Key=1", "start": 1, "end": 6, "line": 2, "column": 1, "groups": ["Key", "1", None]}
    ]


@settings(deadline=None)
@given(text=st.text(alphabet="ab\n", max_size=60))
def test_every_match_is_where_search_says(text: str) -> None:
    lines = text.split("\n")
    found = work("search", text, pattern="b", limit=1000)["matches"]
    assert len(found) == text.count("b")
    for match in found:
        assert lines[match["line"] - 1][match["column"] - 1] == "b"
        assert text[match["start"] : match["end"]] == "b"


async def test_a_pattern_that_backtracks_without_end_is_ended() -> None:
    with pytest.raises(ToolError, match=r"longer than 0\.5 s"):
        await call("search", "a" * 5000 + "b", deadline=0.5, pattern="(a+)+$", regex=True)


async def test_a_diff_that_takes_too_long_is_ended() -> None:
    # Each line so rare that difflib does not take it for junk, and so frequent that it compares without end.
    text = "".join(f"{index % 150}\n" for index in range(200_000))
    other = "".join(f"{index * 7 % 150}\n" for index in range(200_000))
    with pytest.raises(ToolError, match="longer than"):
        await call("diff", text, deadline=0.5, other_text=other)


@pytest.mark.parametrize(
    "pattern", ["(", "*", "(?P<n>a)(?P<n>b)", "(" * 5000, "a{99999999999999}", "(?<=a+)b"]
)
def test_a_pattern_that_is_none_is_said_to_be_none(pattern: str) -> None:
    with pytest.raises(text_worker.WorkError, match="not a regular expression"):
        work("search", "a", pattern=pattern, regex=True)


async def test_what_the_worker_refuses_is_a_tool_error() -> None:
    with pytest.raises(ToolError, match="not a regular expression"):
        await call("search", "a", pattern="(", regex=True)


async def test_a_worker_that_fails_is_a_tool_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(text_processing, "_WORKER", tmp_path / "absent.py")
    with pytest.raises(ToolError, match="more memory") as caught:
        await call("search", "a", pattern="a")
    assert str(tmp_path) not in str(caught.value)


async def test_search_and_replace_need_a_pattern() -> None:
    for operation in ("search", "replace"):
        with pytest.raises(ToolError, match="needs a pattern"):
            await call(operation, "a")


def test_matches_are_bounded_in_number_and_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    found = work("search", "aaaa", pattern="a", limit=3)
    assert (len(found["matches"]), found["truncated"]) == (3, True)
    monkeypatch.setattr(text_worker, "MAX_OUTPUT", 10)
    found = work("search", "a" * 20, pattern="((a))", regex=True)
    assert (len(found["matches"]), found["truncated"]) == (3, True)


async def test_replace_is_literal_unless_told_otherwise() -> None:
    literal = await call("replace", "a.b axb", pattern="a.b", replacement=r"\1")
    assert (literal["text"], literal["count"]) == (r"\1 axb", 1)
    pattern = await call("replace", "2024-03", pattern=r"(\d+)-(\d+)", replacement=r"\2/\1", regex=True)
    assert (pattern["text"], pattern["count"]) == ("03/2024", 1)


@settings(deadline=None)
@given(
    text=st.text(alphabet="ab.\\", max_size=30),
    old=st.text(alphabet="ab.", min_size=1, max_size=3),
    new=st.text(max_size=5),
)
def test_literal_replacing_is_python_s_own(text: str, old: str, new: str) -> None:
    assert work("replace", text, pattern=old, replacement=new) == {
        "text": text.replace(old, new),
        "count": text.count(old),
    }


def test_a_replacement_that_is_wrong_or_grows_too_long_is_refused() -> None:
    for replacement in (r"\9", r"\g<name>", "\\"):
        with pytest.raises(text_worker.WorkError, match="replacement is not valid"):
            work("replace", "a", pattern="(a)", replacement=replacement, regex=True)
    with pytest.raises(text_worker.WorkError, match="longer than"):
        work("replace", "a" * 1000, pattern="a", replacement="b" * 10_000)


@pytest.mark.parametrize(
    ("kind", "text", "items"),
    [
        (
            "emails",
            "ada@example.org, B.C+d@x-y.co.uk; a@b, @x.org, ada@example.org",
            ["ada@example.org", "B.C+d@x-y.co.uk"],
        ),
        ("urls", "see (https://x.org/a?b=1). ftp://y.org, http://", ["https://x.org/a?b=1", "ftp://y.org"]),
        ("numbers", "1,234.50 and -3, 2e10, v1.2 x9 42.", ["1,234.50", "-3", "2e10", "42"]),
        (
            "dates",
            "2024-03-01, 2024-03-01T10:00:00Z, 3/1/2024, 1.3.2024, 1 March 2024, Mar 1, 2024; 12024-03-01",
            ["2024-03-01", "2024-03-01T10:00:00Z", "3/1/2024", "1.3.2024", "1 March 2024", "Mar 1, 2024"],
        ),
    ],
)
def test_extract_pulls_out_each_once(kind: str, text: str, items: list[str]) -> None:
    assert work("extract", text, kind=kind) == {"items": items, "truncated": False}


def test_extract_and_diff_do_what_the_process_does() -> None:
    assert work("extract", "1 2 3 3", kind="numbers", limit=2) == {"items": ["1", "2"], "truncated": True}
    assert work("diff", "a", other_text="b")["text"].splitlines()[2:] == ["@@ -1 +1 @@", "-a", "+b"]


async def test_extract_is_bounded_by_the_limit() -> None:
    found = await call("extract", "1 2 3 3", kind="numbers", limit=2)
    assert (found["items"], found["truncated"]) == (["1", "2"], True)


@pytest.mark.parametrize("kind", list(text_worker.EXTRACTS))
@pytest.mark.parametrize(
    "unit", ["a", "1", "a.", "a@", "a@a.", "1,", "http://", "https://.", "-", "1/1/", "May 1", " "]
)
async def test_extracting_from_a_million_hostile_characters_ends_in_time(kind: str, unit: str) -> None:
    await call("extract", unit * (1_000_000 // len(unit)), kind=kind)


async def test_diff_is_unified_and_counts_lines() -> None:
    found = await call("diff", "a\nb\n", other_text="a\nc\nd\n")
    assert found["text"] == "--- text\n+++ other_text\n@@ -1,2 +1,3 @@\n a\n-b\n+c\n+d"
    assert (found["added"], found["removed"], found["identical"]) == (2, 1, False)
    same = await call("diff", "a", other_text="a")
    assert (same["text"], same["identical"]) == ("", True)


def test_a_diff_that_grows_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_worker, "MAX_OUTPUT", 10)
    with pytest.raises(text_worker.WorkError, match="longer than"):
        work("diff", "a", other_text="b")


@pytest.mark.parametrize(
    ("case", "text", "changed"),
    [
        ("lower", "ÀB", "àb"),
        ("upper", "straße", "STRASSE"),
        ("title", "it's a DOG's life", "It's A Dog's Life"),
        ("sentence", "HELLO. is it? yes", "Hello. Is it? Yes"),
        ("snake", "parseHTTPResponse code\nfoo-bar", "parse_http_response_code\nfoo_bar"),
        ("kebab", "Hello big World", "hello-big-world"),
        ("camel", "hello big_world", "helloBigWorld"),
    ],
)
async def test_case_is_changed(case: Any, text: str, changed: str) -> None:
    assert (await call("case", text, case=case))["text"] == changed
    assert change_case(changed, case) == changed


async def test_truncate_ends_at_a_word() -> None:
    assert (await call("truncate", "Hello big world", length=12))["text"] == "Hello big…"
    assert truncate("Hello big world", 10) == {
        "operation": "truncate",
        "text": "Hello big…",
        "truncated": True,
    }
    assert truncate("Hello", 5) == {"operation": "truncate", "text": "Hello", "truncated": False}
    assert truncate("Unbreakable", 5)["text"] == "Unbr…"


@settings(deadline=None)
@given(text=st.text(), length=st.integers(1, 50))
def test_truncated_text_is_never_longer_than_asked(text: str, length: int) -> None:
    found = truncate(text, length)
    assert len(found["text"]) <= length
    assert found["truncated"] is (len(text) > length)


async def test_hash_digests_utf_8() -> None:
    assert (await call("hash", "é", algorithm="md5"))["digest"] == "66ddcd97cfdeabb2f6fb8a999b4bc76f"
    assert (await call("hash", "abc"))["digest"].startswith("ba7816bf")


async def test_keywords_leave_out_the_commonest_words() -> None:
    found = await call("keywords", "The Mesh and the mesh: a node is in the MESH, the node's node", limit=2)
    assert found["keywords"] == [{"word": "mesh", "count": 3}, {"word": "node", "count": 2}]
    assert (found["words"], found["count"]) == (14, 3)


@settings(deadline=None)
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    indent=st.integers(0, 8),
)
def test_json_is_laid_out_without_changing_its_meaning(value: Any, indent: int) -> None:
    found = check_json(json.dumps(value), indent)
    assert found["valid"] is True
    assert json.loads(found["text"]) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": [1, 2}', "',' delimiter at line 1, column 12"),
        ("", "Expecting value at line 1, column 1"),
        ("[NaN]", "NaN is not JSON"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "limit"),
        ("1e999", "Out of range"),
    ],
)
async def test_what_is_wrong_with_json_is_said(text: str, problem: str) -> None:
    found = await call("json", text)
    assert found["valid"] is False
    assert problem in found["problem"]


async def test_json_is_written_on_one_line_or_indented() -> None:
    assert (await call("json", ' {"é" : [1]}', indent=0))["text"] == '{"é":[1]}'
    assert (await call("json", "[1]"))["text"] == "[\n  1\n]"


def test_json_whose_indentation_would_fill_memory_is_refused() -> None:
    with pytest.raises(ToolError, match="longer than"):
        check_json("[" * 200 + ",".join("1" * 5000) + "]" * 200, 8)


async def test_text_beyond_the_bound_is_refused() -> None:
    with pytest.raises(ToolError, match="validation error"):
        await call("statistics", "a" * 1_000_001)


def test_the_worker_answers_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits: list[Any] = []

    def refuse(limit: int, value: Any) -> None:
        limits.append(value)
        raise ValueError("not on this system")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(sys, "argv", ["text_worker.py", "4"])
    request = {"operation": "search", "text": "a", "regex": True, "ignore_case": False, "limit": 1}
    for pattern, answer in (("a", "result"), ("(", "error")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request | {"pattern": pattern})))
        text_worker.main()
        assert list(json.loads(capsys.readouterr().out)) == [answer]
    assert limits[0] == (4, 4)


def test_the_worker_is_a_bare_file_that_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(text_worker.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names


def test_importing_the_toolbox_reads_no_environment_and_builds_no_server() -> None:
    script = (
        "import os; os.environ = None\n"
        "from mcp_federation.toolbox import database, file_operations, text_processing\n"
        "assert not any('server' in vars(m) for m in (database, file_operations, text_processing))\n"
    )
    imports = "import mcp.server.mcpserver, sqlite3, subprocess, anyio.from_thread, mimetypes\n"
    subprocess.run([sys.executable, "-c", imports + script], check=True, timeout=50)


async def test_the_module_server_is_built_when_it_is_asked_for() -> None:
    async with Client(text_processing.server) as client:
        result = await client.call_tool("text_processing_mcp", {"operation": "statistics", "text": TEXT})
    assert not result.is_error
    with pytest.raises(AttributeError, match="no attribute 'client'"):
        _ = text_processing.client
