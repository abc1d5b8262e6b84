"""Logs: one JSON object a line in Winston's shape, whoever logs, and no secrets in it."""

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import structlog

from mcp_federation.logs import Level, configure_logs, get_logger

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(out: io.StringIO) -> Lines:
    return lambda: [json.loads(line) for line in out.getvalue().splitlines()]


def test_as_a_library_it_prints_nothing_and_leaves_the_choice_to_logging() -> None:
    code = """
import logging, sys
from mcp_federation.logs import get_logger
get_logger("client").warning("message_refused", reason="x", token="s3cret")
logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
get_logger("client").warning("message_refused", reason="50 %")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == ""
    assert "mcp_federation: event='message_refused'" in ran.stderr
    assert "s3cret" not in ran.stderr


def test_a_line_has_the_shape_that_winston_s_collectors_read(out: io.StringIO, lines: Lines) -> None:
    configure_logs("info", stream=out)
    get_logger("node").info("tool_published", message="It is out.", tool="a", size=3)
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", line.pop("timestamp"))
    assert line == {
        "level": "INFO",
        "component": "node",
        "operation": "tool_published",
        "message": "It is out.",
        "metadata": {"tool": "a", "size": 3},
    }


def test_a_stream_that_is_gone_ends_nobody_who_logs(out: io.StringIO) -> None:
    configure_logs("info", stream=out)
    out.close()
    get_logger("node").error("nobody_reads_this")


def test_without_a_message_the_operation_is_said_in_words(out: io.StringIO, lines: Lines) -> None:
    configure_logs("info", stream=out)
    get_logger("node").info("tool_published")
    (line,) = lines()
    assert line["message"] == "tool published"
    assert "metadata" not in line


def test_a_stack_stands_beside_an_exception_and_nowhere_else(out: io.StringIO, lines: Lines) -> None:
    configure_logs("info", stream=out)
    log = get_logger("node")
    log.error("plain")
    try:
        raise KeyError("why")
    except KeyError:
        log.exception("failed", tool="a")
    plain, failed = lines()
    assert "stack" not in plain
    assert "KeyError: 'why'" in failed["stack"]
    assert (failed["level"], failed["metadata"]) == ("ERROR", {"tool": "a"})


def test_levels_go_by_winston_s_names(out: io.StringIO, lines: Lines) -> None:
    configure_logs("debug", stream=out)
    log = get_logger("node")
    for say in (log.debug, log.info, log.warn, log.warning, log.error, log.critical):
        say("event")
    assert [line["level"] for line in lines()] == ["DEBUG", "INFO", "WARN", "WARN", "ERROR", "ERROR"]


@pytest.mark.parametrize("level", get_args(Level))
def test_every_level_of_winston_can_be_asked_for(level: Level, out: io.StringIO, lines: Lines) -> None:
    configure_logs(level, stream=out)
    log = get_logger("node")
    for say in (log.error, log.warning, log.info, log.debug):
        say("event")
    heard = {"error": 1, "warn": 2, "info": 3, "http": 3, "verbose": 3, "debug": 4, "silly": 4}[level]
    assert len(lines()) == heard


def test_secrets_are_masked_at_any_depth(out: io.StringIO, lines: Lines) -> None:
    configure_logs("info", stream=out)
    get_logger("node").info(
        "started",
        token="s3cret",
        MCP_FEDERATION_TOKEN="s3cret",
        db_password="s3cret",
        headers={"Authorization": "Bearer s3cret", "Accept": "*/*", "nested": {"api_key": "s3cret"}},
    )
    assert "s3cret" not in out.getvalue()
    assert lines()[0]["metadata"]["headers"]["Accept"] == "*/*"


def test_values_that_are_no_json_are_written_as_text(out: io.StringIO, lines: Lines) -> None:
    configure_logs("info", stream=out)
    get_logger("node").info("event", error=ValueError("why"), many={3})
    assert lines()[0]["metadata"] == {"error": "why", "many": [3]}


def test_what_libraries_log_takes_the_same_way(out: io.StringIO, lines: Lines) -> None:
    configure_logs("info", stream=out)
    library = logging.getLogger("some.library")
    library.info("chatter")
    library.warning("low on %s", "paper")
    try:
        raise KeyError("why")
    except KeyError:
        library.exception("failed")
    low, failed = lines()
    assert (low["level"], low["component"], low["message"]) == ("WARN", "some.library", "low on paper")
    assert "KeyError" in failed["stack"]


def test_libraries_are_heard_in_full_at_debug_and_hardly_at_error(out: io.StringIO, lines: Lines) -> None:
    configure_logs("debug", stream=out)
    logging.getLogger("some.library").debug("chatter")
    configure_logs("error", stream=out)
    logging.getLogger("some.library").warning("unheard")
    assert [line["message"] for line in lines()] == ["chatter"]


@pytest.mark.parametrize(("number", "name"), [(11, "DEBUG"), (25, "INFO"), (35, "WARN"), (99, "ERROR")])
def test_a_library_s_own_level_counts_as_the_one_below(
    number: int, name: str, out: io.StringIO, lines: Lines
) -> None:
    configure_logs("debug", stream=out)
    logging.getLogger("some.library").log(number, "odd")
    assert [line["level"] for line in lines()] == [name]


def test_a_library_that_logs_wrongly_is_still_heard(out: io.StringIO, lines: Lines) -> None:
    configure_logs("info", stream=out)
    logging.getLogger("some.library").warning("%d pages", "three")
    assert lines()[0]["message"] == "%d pages"


def test_a_terminal_gets_lines_for_people(out: io.StringIO) -> None:
    configure_logs("info", pretty=True, stream=out)
    log = get_logger("node")
    secret = "".join(["s3", "cret"])
    log.info("tool_published", tool="a", token=secret)
    try:
        raise KeyError("why")
    except KeyError:
        log.exception("failed")
    text = out.getvalue()
    assert "tool_published" in text
    assert "tool=a" in text
    assert "KeyError" in text
    assert "s3cret" not in text
    assert not text.startswith("{")


def test_a_line_for_people_begins_with_what_it_is_about_and_shortens_digests(
    out: io.StringIO, lines: Lines
) -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    configure_logs("info", pretty=True, stream=out)
    get_logger("node").info("tool_published", tool="a", digest=digest)
    assert out.getvalue().rstrip().endswith("component=node tool=a digest=sha256:0123456789ab…")
    out.truncate(out.seek(0))
    configure_logs("info", pretty=False, stream=out)
    get_logger("node").info("tool_published", tool="a", digest=digest)
    assert lines()[0]["metadata"]["digest"] == digest


def test_a_stream_that_is_a_terminal_is_told_by_itself(
    monkeypatch: pytest.MonkeyPatch, out: io.StringIO
) -> None:
    monkeypatch.setattr(out, "isatty", lambda: True)
    configure_logs("info", stream=out)
    get_logger("node").info("started")
    assert "\x1b[" in out.getvalue()


def test_logs_go_to_stderr_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", pretty=False)
    get_logger("node").info("started")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["operation"] == "started"
