"""`POST /register`, against a home node that is real on the bus, on both buses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import to_builtins

from mcp_federation.bus.protocol import Bus, Delivery, Reply
from mcp_federation.contract.messages import Decision, Finding, Submission, SubmissionAnswer, Tool, Verdict
from mcp_federation.contract.subjects import SUBMIT
from mcp_federation.edge import registration
from mcp_federation.errors import Conflict, RegistrationRefused
from tests.support.edge_mesh import HOME, BusNode, Edge, ensure_streams, running_edge

DOCUMENTED = {
    "name": "custom_super_tool",
    "description": "Domain-specific analytics tool",
    "version": "0.1.0",
    "source_repo": "https://github.com/acme/custom_super_tool",
}
FINDING = Finding(
    rule="text.hidden", severity="high", where="/description", why="hidden", remedy="take it out"
)
NOTE = Finding(rule="text.short", severity="low", where="/description", why="short", remedy="say more")


@pytest.fixture
async def edge(bus: Bus) -> AsyncIterator[Edge]:
    await ensure_streams(bus)
    async with running_edge(bus) as running:
        yield running


@pytest.fixture
async def home(edge: Edge, bus: Bus) -> BusNode:
    node = BusNode(bus)

    async def approve(submission: Submission) -> SubmissionAnswer:
        entry = await node.publish(
            Tool(name=submission.name, description=submission.description, version=submission.version),
            source_repo=submission.source_repo,
        )
        verdict = Verdict(
            node=HOME, name=submission.name, digest=entry.digest, decision="approved", findings=(NOTE,)
        )
        return SubmissionAnswer(published=(submission.name,), verdicts=(verdict,))

    node.on_submission = approve
    await node.start()
    return node


async def test_the_documented_registration_gives_the_documented_answer(edge: Edge, home: BusNode) -> None:
    answer = await edge.post("/register", DOCUMENTED)
    assert answer.status == 201
    assert answer.json == {
        "status": "registered",
        "name": "custom_super_tool",
        "published": ["custom_super_tool"],
        "quarantined": [],
        "findings": [to_builtins(NOTE)],
    }


async def test_what_was_registered_is_discovered_at_once_and_described_only(
    edge: Edge, home: BusNode
) -> None:
    await edge.post("/register", DOCUMENTED)
    (shown,) = (await edge.get("/discover")).json
    assert DOCUMENTED.items() <= shown.items()
    assert shown["executable"] is False
    answer = await edge.post("/execute", {"mcp_name": "custom_super_tool"})
    assert (answer.status, answer.json["code"]) == (409, "not_executable")


async def test_a_new_version_is_shown_and_not_the_old_one(edge: Edge, home: BusNode) -> None:
    await edge.post("/register", DOCUMENTED)
    await edge.post("/register", {**DOCUMENTED, "version": "0.2.0"})
    (shown,) = (await edge.get("/discover")).json
    assert shown["version"] == "0.2.0"


@pytest.mark.parametrize("key", ["input_schema", "inputSchema"])
async def test_all_that_the_body_says_reaches_the_node_in_its_order(
    edge: Edge, home: BusNode, key: str
) -> None:
    schema = '{"type":"object","properties":{"zebra":{},"apple":{"maximum":1e3}}}'
    body = f'{{"name":"t","description":"d","{key}":{schema},"server":{{"url":"https://x.example/mcp"}}}}'
    assert (await edge.post_bytes("/register", body.encode())).status == 201
    (submission,) = home.submissions
    assert (submission.version, submission.source_repo) == ("0.0.0", None)
    assert submission.server_url == "https://x.example/mcp"
    assert submission.input_schema is not None
    assert bytes(submission.input_schema).decode() == schema


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"name": "a"},
        {"name": "", "description": "d"},
        {"name": "n" * 257, "description": "d"},
        {"name": "a", "description": "d", "version": 1},
        {"name": "a", "description": "d", "input_schema": []},
        {"name": "a", "description": "d", "input_schema": True},
        {"name": "a", "description": "d", "server": "https://x.example"},
        {"name": "a", "description": "d", "server": {"url": "file:///etc/passwd"}},
        [],
    ],
)
async def test_a_registration_that_does_not_fit_never_reaches_the_node(
    edge: Edge, home: BusNode, bad: Any
) -> None:
    answer = await edge.post("/register", bad)
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert home.submissions == []


async def test_a_refusal_carries_the_findings(edge: Edge, home: BusNode) -> None:
    async def refuse(_: Submission) -> SubmissionAnswer:
        raise RegistrationRefused("governance rejected it", {"findings": [to_builtins(FINDING)]})

    home.on_submission = refuse
    answer = await edge.post("/register", DOCUMENTED)
    assert (answer.status, answer.json["code"]) == (422, "registration_refused")
    assert answer.json["findings"] == [to_builtins(FINDING)]
    assert (await edge.get("/discover")).json == []


def decided(decision: Decision) -> Callable[[Submission], Awaitable[SubmissionAnswer]]:
    async def answer(submission: Submission) -> SubmissionAnswer:
        verdict = Verdict(
            node=HOME,
            name=submission.name,
            digest="sha256:" + "0" * 64,
            decision=decision,
            findings=(FINDING,),
        )
        return SubmissionAnswer(verdicts=(verdict,))

    return answer


async def test_an_answer_without_anything_published_is_a_refusal_too(edge: Edge, home: BusNode) -> None:
    home.on_submission = decided("rejected")
    answer = await edge.post("/register", DOCUMENTED)
    assert (answer.status, answer.json["findings"]) == (422, [to_builtins(FINDING)])


async def test_what_waits_for_a_person_is_accepted_and_said_to_be_quarantined(
    edge: Edge, home: BusNode
) -> None:
    home.on_submission = decided("quarantined")
    answer = await edge.post("/register", DOCUMENTED)
    assert answer.status == 202
    assert answer.json == {
        "status": "quarantined",
        "name": "custom_super_tool",
        "published": [],
        "quarantined": ["custom_super_tool"],
        "findings": [to_builtins(FINDING)],
    }
    assert (await edge.get("/discover")).json == []


async def test_a_name_that_is_taken_is_a_conflict(edge: Edge, home: BusNode) -> None:
    async def conflict(_: Submission) -> SubmissionAnswer:
        raise Conflict("the node already has it")

    home.on_submission = conflict
    answer = await edge.post("/register", DOCUMENTED)
    assert (answer.status, answer.json["code"]) == (409, "conflict")


async def test_without_its_home_node_the_edge_cannot_register(edge: Edge) -> None:
    answer = await edge.post("/register", DOCUMENTED)
    assert (answer.status, answer.json["code"], answer.json["node"]) == (503, "node_unavailable", HOME)


async def test_nonsense_from_the_node_is_no_fault_of_the_caller(edge: Edge, bus: Bus) -> None:
    async def nonsense(_: Delivery) -> Reply:
        return Reply(b"nonsense")

    await bus.respond(SUBMIT.of(HOME), nonsense)
    await bus.flush()
    answer = await edge.post("/register", DOCUMENTED)
    assert (answer.status, answer.json["code"]) == (500, "internal_error")
    assert b"nonsense" not in answer.body


async def test_a_publication_that_is_slow_to_come_back_is_registered_nonetheless(
    edge: Edge, home: BusNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unseen(submission: Submission) -> SubmissionAnswer:
        return SubmissionAnswer(published=(submission.name,))

    home.on_submission = unseen
    monkeypatch.setattr(registration, "ECHO_TIMEOUT", 0.01)
    assert (await edge.post("/register", DOCUMENTED)).status == 201
