import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.mesh.child_log import last_error, open_log


def entry(level: str, message: str, **metadata: str) -> str:
    return json.dumps({"level": level, "message": message, "metadata": metadata})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], ""),
        (["", "  "], ""),
        (["first", "last words"], "last words"),
        ([entry("ERROR", "it broke", reason="no disk"), entry("INFO", "bye")], "it broke: no disk"),
        ([entry("WARN", "hm"), entry("INFO", "bye")], "bye"),
        ([entry("INFO", "up"), "mcp-federation: port 8000 is taken"], "port 8000 is taken"),
        (
            ["[12] 2026/01/31 23:59:59.123456 [FTL] Can't listen", "[12] 2026/01/31 x [INF] bye"],
            "Can't listen",
        ),
        (["nats-server: bad.conf:1:2: unknown field"], "bad.conf:1:2: unknown field"),
        (["Traceback (most recent call last):", "ImportError: no module"], "ImportError: no module"),
    ],
)
def test_the_last_error_of_a_log_is_found_among_what_follows_it(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(lines))
    assert last_error(log) == said


def test_only_what_was_logged_since_the_start_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("mcp-federation: of the last run\n")
    assert last_error(log, log.stat().st_size) == ""


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert last_error(tmp_path / "none") == ""


@given(st.binary(max_size=300))
def test_whatever_a_child_writes_is_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, written: bytes
) -> None:
    log = tmp_path_factory.mktemp("log") / "log"
    log.write_bytes(written)
    assert "\n" not in last_error(log)


def test_a_log_that_is_too_large_is_set_aside_once(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "node.log"
    for line in (b"one\n", b"two\n", b"three\n"):
        with open_log(log, max_bytes=3) as file:
            file.write(line)
    assert log.read_bytes() == b"three\n"
    assert log.with_name("node.log.1").read_bytes() == b"two\n"


def test_a_log_within_its_bound_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    for line in (b"one\n", b"two\n"):
        with open_log(log) as file:
            assert file.tell() == (log.stat().st_size)
            file.write(line)
    assert log.read_bytes() == b"one\ntwo\n"
