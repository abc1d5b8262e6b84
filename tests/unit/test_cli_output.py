import io
from contextlib import redirect_stdout
from typing import Any

import pytest

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.memory_broker import MemoryBroker
from mcp_federation.catalog.replica import CatalogReplica
from mcp_federation.catalog.state import CatalogTool
from mcp_federation.cli.call import describe, readable, show_result
from mcp_federation.cli.discover import (
    DESCRIPTION_WIDTH,
    hear_nodes,
    matches,
    show_tools,
    state_of,
    summary,
    unbelieved,
)
from mcp_federation.cli.output import print_row
from mcp_federation.cli.recommend import show_recommendations
from mcp_federation.client import FederationClient
from mcp_federation.contract.mcp import CallResult
from mcp_federation.contract.messages import Progress
from mcp_federation.contract.subjects import CATALOG_STREAM, RULING_STREAM
from mcp_federation.errors import ToolNotFound
from tests.support.publishing import Publisher


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def text(value: str) -> CallResult:
    return CallResult(content=[{"type": "text", "text": value}])


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (text("hello\nworld"), "hello\nworld"),
        (CallResult(structured_content={"result": "plain"}), "plain"),
        (CallResult(structured_content={"a": [1, "ü"]}), '{\n  "a": [\n    1,\n    "ü"\n  ]\n}'),
        (CallResult(structured_content={"result": None}), "null"),
        (CallResult(), ""),
        (
            CallResult(
                content=[
                    {"type": "text", "text": "see"},
                    {"type": "image", "data": "AAAA", "mimeType": "image/png"},
                    {"type": "resource_link", "name": "log", "uri": "file:///log"},
                    {"type": "resource", "resource": {"uri": "x:"}},
                ]
            ),
            'see\n<image: image/png, about 3 bytes>\n<log: file:///log>\n{\n  "type": "resource",\n'
            '  "resource": {\n    "uri": "x:"\n  }\n}',
        ),
    ],
)
def test_a_result_is_printed_readably(result: CallResult, shown: str) -> None:
    assert readable(result) == shown


def test_recommendations_are_a_table_on_a_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    tool = {
        "name": "clock\x1b[31m@globex",
        "description": "Tells the time.\n\nAnd more.",
        "available": True,
        "relevance": 1.0,
        "success_probability": 0.934,
        "latency_ms": {"p50": 1234.0},
        "providers": [{}, {}],
    }
    with redirect_stdout(terminal):
        show_recommendations([tool, tool | {"available": False, "latency_ms": {"p50": 12.3}}])
    shown = terminal.getvalue()
    assert "\x1b[31m" not in shown
    for cell in ("and 1 more", "100%", "93%", "1.2 s", "12 ms", "Tells the time.", "cannot be run"):
        assert cell in shown


def test_what_a_stranger_wrote_stays_one_field_of_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_row("clock\nfake@acme\tapproved", "quarantined")
    assert capsys.readouterr().out == "clock fake@acme approved\tquarantined\n"


def test_a_recommendation_in_a_pipe_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_recommendations([{"name": "clock\nfake@acme", "relevance": 1.0, "success_probability": 0.934}])
    assert capsys.readouterr().out == "clock fake@acme\t1.00\t0.93\n"


def test_no_recommendation_is_said(terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        show_recommendations([])
    assert "no tool of the mesh does that" in terminal.getvalue()


def test_a_pipe_gets_the_text_of_a_tool_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(text("[bold]\x1b[31mred"))
    assert capsys.readouterr().out == "[bold]\x1b[31mred\n"


def test_a_terminal_is_not_driven_by_the_text_of_a_tool(terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        show_result(text("[bold]\x1b[31mred"))
    assert terminal.getvalue() == "[bold]\ufffd[31mred\n"


def test_a_terminal_gets_structure_in_colour(terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        show_result(CallResult(structured_content={"a": 1}))
    assert "\x1b[" in terminal.getvalue()


async def client(*names: str, **fields: Any) -> tuple[FederationClient, Publisher]:
    bus = MemoryBus(MemoryBroker())
    await bus.ensure_stream(CATALOG_STREAM)
    await bus.ensure_stream(RULING_STREAM)
    publisher = Publisher(bus)
    for name in names:
        await publisher.publish(name, "Tells the time.\n\nIn any zone.", **fields)
    replica = CatalogReplica(bus, publisher.verifier)
    await replica.start()
    return FederationClient(bus, replica), publisher


async def tool(name: str = "clock.now") -> CatalogTool:
    made, _ = await client(name)
    found = made.discover()[0]
    await made.catalog.stop()
    return found


@pytest.mark.parametrize(
    ("query", "found"), [("", True), ("TIME clock", True), ("@acme zone", True), ("git", False)]
)
async def test_a_query_asks_for_all_of_its_words(query: str, found: bool) -> None:
    assert matches(await tool(), query) is found


async def test_json_has_all_that_a_caller_needs() -> None:
    made, _ = await client("clock.now")
    found = summary(made, made.discover()[0])
    await made.catalog.stop()
    assert found["name"] == "clock.now@acme"
    assert found["state"] == "ready"
    assert found["input_schema"]["type"] == "object"


async def test_the_state_says_what_nothing_runs_and_whose_node_is_gone() -> None:
    made, _ = await client("clock.now")
    described, _ = await client("clock.now", execute_subject=None)
    made.catalog.note_unavailable("acme")
    assert state_of(made, made.discover()[0]) == "unavailable"
    assert state_of(described, described.discover()[0]) == "described"
    await made.catalog.stop()
    await described.catalog.stop()


LONG = "server." + "long_name_" * 12


async def test_a_pipe_gets_one_whole_line_a_tool(capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = await client("clock.now", LONG)
    show_tools(made, made.discover(), "")
    await made.catalog.stop()
    assert capsys.readouterr().out.splitlines() == [
        "clock.now@acme\t0.0.0\tready\tTells the time. In any zone.",
        f"{LONG}@acme\t0.0.0\tready\tTells the time. In any zone.",
    ]


async def test_a_terminal_gets_a_table_with_the_first_paragraph_and_whole_names(terminal: Terminal) -> None:
    made, _ = await client(LONG)
    with redirect_stdout(terminal):
        show_tools(made, made.discover(), "")
    await made.catalog.stop()
    shown = terminal.getvalue()
    assert "Tells the time." in shown
    assert "zone" not in shown
    assert "…" not in shown


async def test_a_terminal_is_told_the_arguments_as_a_call_takes_them(terminal: Terminal) -> None:
    made, _ = await client("clock")
    with redirect_stdout(terminal):
        show_tools(made, made.discover(), "")
    await made.catalog.stop()
    assert "text=" in terminal.getvalue()


async def test_a_long_description_is_cut_even_where_no_blank_divides_it(terminal: Terminal) -> None:
    made, publisher = await client()
    await publisher.publish("clock", "時" * 300)
    assert await made.catalog.wait_until(lambda: bool(made.discover()), 10)
    with redirect_stdout(terminal):
        show_tools(made, made.discover(), "")
    await made.catalog.stop()
    assert terminal.getvalue().count("時") == DESCRIPTION_WIDTH - 1
    assert "…" in terminal.getvalue()


async def test_a_terminal_is_told_when_there_is_nothing(terminal: Terminal) -> None:
    made, _ = await client()
    with redirect_stdout(terminal):
        show_tools(made, [], "git")
        show_tools(made, [], "")
    await made.catalog.stop()
    assert terminal.getvalue() == "no tool matches 'git'\nthe mesh has no tools yet\n"


async def test_a_mesh_whose_governance_is_not_trusted_does_not_pass_for_an_empty_one(
    terminal: Terminal,
) -> None:
    _, publisher = await client("clock", "calendar")
    stranger = Publisher(publisher.bus, "other")
    replica = CatalogReplica(publisher.bus, stranger.verifier)
    await replica.start()
    made = FederationClient(publisher.bus, replica)
    why = "the approval is signed by a key that is not trusted here"
    assert unbelieved(made) == f"none of the 2 published tools is believed here: {why}"
    with redirect_stdout(terminal):
        show_tools(made, [], "")
    assert terminal.getvalue() == ""
    for name in ("clock", "clock@acme"):
        with pytest.raises(ToolNotFound, match=f"the tool '{name}' is not believed here: {why}"):
            made.candidates(name)
    with pytest.raises(ToolNotFound, match="no tool is called 'clock@other'"):
        made.candidates("clock@other")
    await stranger.publish("clock")
    assert await replica.wait_until(lambda: bool(made.discover()), 10)
    assert unbelieved(made) == ""
    await replica.stop()


async def test_a_node_that_is_not_heard_of_is_not_shown_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_federation.cli.discover.HEARD_TIMEOUT", 0.01)
    made, publisher = await client("clock")
    await hear_nodes(made)
    assert state_of(made, made.discover()[0]) == "unavailable"
    await publisher.presence()
    await publisher.bus.flush()
    await hear_nodes(made)
    assert await made.catalog.wait_until(lambda: state_of(made, made.discover()[0]) == "ready", 10)
    await made.catalog.stop()


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (
            Progress(progress=3.0, total=10.0, message="counting\nsheep\x1b[31m"),
            "3/10 counting sheep\ufffd[31m",
        ),
        (Progress(progress=0.5), "0.5"),
    ],
)
def test_a_step_is_one_harmless_line(step: Progress, line: str) -> None:
    assert describe(step) == line
