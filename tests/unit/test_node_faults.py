"""What is told of a server that failed: a reason in one line, without secrets; and its last words."""

import asyncio
import os
import sys

import httpx2
import mcp_types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import MCPError
from pydantic import TypeAdapter, ValidationError

from mcp_federation.errors import (
    DeadlineExceeded,
    InvalidArguments,
    ToolFailed,
    ToolNotFound,
)
from mcp_federation.node.servers.faults import MAX_REASON, Ended, call_error, reason_of
from mcp_federation.node.servers.stderr_tail import LINES, MAX_LINE, StderrTail

PYTHON = (sys.executable, "-I", "-S", "-c")


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("seven")
    return caught.value


def with_status(status: int) -> httpx2.HTTPStatusError:
    request = httpx2.Request("GET", "https://user:secret@a.example/sse?key=secret")
    response = httpx2.Response(status, request=request)
    with pytest.raises(httpx2.HTTPStatusError) as caught:
        response.raise_for_status()
    return caught.value


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Ended("it ended"), "it ended"),
        (FileNotFoundError(2, "No such file", "nope"), "the command nope was not found"),
        (FileNotFoundError(), "the command was not found"),
        (TimeoutError(), "it did not answer in time"),
        (MCPError(mcp_types.CONNECTION_CLOSED, "Connection closed"), "it ended before it answered"),
        (MCPError(-32603, "out of order"), "MCPError: out of order"),
        (invalid(), "it answers with what is not valid MCP"),
        (with_status(401), "it answers with HTTP status 401"),
        (httpx2.ConnectError("All attempts failed"), "it cannot be reached: All attempts failed"),
        (httpx2.ReadTimeout(""), "it cannot be reached: ReadTimeout"),
        (
            httpx2.LocalProtocolError("Illegal header value b'secret'"),
            "it cannot be reached: its URL or a header is malformed",
        ),
        (PermissionError(13, "Denied", "run"), "PermissionError: [Errno 13] Denied: 'run'"),
        (ExceptionGroup("a", [ExceptionGroup("b", [OSError("gone")]), ValueError()]), "OSError: gone"),
        (ValueError("one\n  two\ttwo"), "ValueError: one two two"),
        (
            ValueError("see https://u:p@a.example:1/x?key=secret, or 'http://b/secret'"),
            "ValueError: see https://a.example:1 or 'http://b'",
        ),
    ],
)
def test_a_reason_is_one_line_without_secrets(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason
    assert "secret" not in reason


def test_a_reason_names_nonsense_and_last_words() -> None:
    reason = reason_of(TimeoutError(), "it writes what is not MCP", "no licence")
    assert reason == "it did not answer in time; it writes what is not MCP; its last words: no licence"


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_reason_can_be_published(text: str, words: str) -> None:
    reason = reason_of(ValueError(text), "", words)
    assert reason.encode()
    assert len(reason) <= MAX_REASON
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (mcp_types.REQUEST_TIMEOUT, DeadlineExceeded),
        (mcp_types.METHOD_NOT_FOUND, ToolNotFound),
        (mcp_types.INVALID_PARAMS, InvalidArguments),
        (mcp_types.INTERNAL_ERROR, ToolFailed),
        (-1, ToolFailed),
    ],
)
def test_an_error_of_the_protocol_becomes_one_of_ours(code: int, kind: type[Exception]) -> None:
    assert type(call_error(MCPError(code, "a message"), "time", "now")) is kind


async def last_words(script: str) -> str:
    tail = StderrTail("a server")
    child = await asyncio.create_subprocess_exec(*PYTHON, script, stderr=await tail.open())
    await child.wait()
    await tail.drain()
    tail.close()
    return tail.last


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", ""),
        ("import sys; sys.exit('no licence')", "no licence"),
        ("import sys; sys.stderr.write('no line feed')", "no line feed"),
        ("import sys; sys.stderr.write('first\\nlast\\n  \\n\\n')", "last"),
        ("import os; os.write(2, b'\\xff\\xfe')", "\ufffd\ufffd"),
        ("import sys; sys.stderr.write('x' * 100_000)", "x" * MAX_LINE),
        ("raise ValueError('seven')", "ValueError: seven"),
    ],
)
async def test_the_last_words_of_a_child_are_kept(script: str, words: str) -> None:
    assert await last_words(script) == words


async def test_only_the_last_lines_are_kept() -> None:
    tail = StderrTail("a server")
    for number in range(10 * LINES):
        tail.data_received(f"line {number}\npart".encode())
        tail.data_received(b" of another line\n")
    tail.data_received(b"\n" * (LINES - 1))
    assert tail.last == "part of another line"
    tail.data_received(b"\n")
    assert tail.last == ""


async def test_a_grandchild_that_goes_on_does_not_hold_up_the_end() -> None:
    tail = StderrTail("a server")
    script = "import subprocess, sys; subprocess.Popen(['sleep', '60']); sys.exit('gone')"
    child = await asyncio.create_subprocess_exec(
        *PYTHON, script, stderr=await tail.open(), start_new_session=True
    )
    await child.wait()
    await tail.drain()
    assert tail.last == "gone"
    tail.close()
    os.killpg(child.pid, 9)


async def test_a_tail_that_was_never_opened_closes() -> None:
    tail = StderrTail("a server")
    await tail.drain()
    tail.close()
    assert tail.last == ""
