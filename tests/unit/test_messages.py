"""Messages: what is sent is what arrives, whatever else stands beside it, and nonsense is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.contract.messages import (
    MESSAGES,
    AuditRecord,
    Blob,
    Cancel,
    Case,
    CatalogEntry,
    CatalogMessage,
    Claim,
    ClaimBatch,
    ErrorReply,
    Finding,
    Message,
    Performance,
    Presence,
    Probe,
    ProbeAnswer,
    Progress,
    Record,
    RecordBatch,
    RefusedTool,
    Registration,
    ReviewCommand,
    Ruling,
    Running,
    ServerState,
    Statistics,
    StatisticsBatch,
    Submission,
    SubmissionAnswer,
    Tally,
    Tool,
    Verdict,
    Withdrawal,
    decode,
    encode,
)
from mcp_federation.errors import InvalidRequest

DIGEST = "sha256:" + "0123456789abcdef" * 4
TOOL = Tool(
    name="zeit.jetzt",
    title="Zeit",
    description="Says what time it is — everywhere 🌍",
    version="1.2.3",
    input_schema=msgspec.Raw(b'{"type":"object"}'),
    output_schema=msgspec.Raw(b"true"),
    annotations=msgspec.Raw(b'{"readOnlyHint":true}'),
    parameters=("zone", "format"),
)
FINDING = Finding(rule="text.hidden", severity="high", where="/description", why="hidden", remedy="remove it")
VERDICT = Verdict(node="acme", name="a", digest=DIGEST, decision="rejected", findings=(FINDING,))
RULING = Ruling(
    node="acme", name="a", digest=DIGEST, decision="revoked", by="ann", at=1.5, revoked_before=1.5, seal="x"
)

EXAMPLES: tuple[Message, ...] = (
    Registration(
        node="acme", tool=TOOL, digest=DIGEST, server="time", executable=False, server_url="http://x"
    ),
    Probe(name="a", call_read_only=True),
    ProbeAnswer(digest=DIGEST, list_ms=2.5, call_ms=1.5, call_problem="no"),
    VERDICT,
    Verdict(node="acme", name="a", digest=DIGEST, decision="approved", approval="a.b.c"),
    CatalogEntry(node="acme", tool=TOOL, digest=DIGEST, approval="a.b.c", execute_subject="x", server="time"),
    Withdrawal(node="acme", name="a", reason="gone"),
    RULING,
    Case(
        node="acme",
        name="a",
        verdict=VERDICT,
        at=1.5,
        approved=TOOL,
        approved_digest=DIGEST,
        pending=TOOL,
        ruling=RULING,
    ),
    ClaimBatch(claims=(Claim(id="1", node="acme", name="a", server="time", description="Look."),), seal="x"),
    ReviewCommand(order="a.b.c"),
    AuditRecord(node="acme", name="a", at=1.5, verdict=VERDICT, request_id="1", after=2, chain="00"),
    Presence(
        node="acme",
        instance="1",
        interval=2.0,
        catalog_hash="00",
        tools=3,
        servers=(ServerState(name="bad", state="failed", reason="exit 1", restarts=2),),
        refused=(RefusedTool(name="a", decision="quarantined", why="look"),),
    ),
    Cancel(request_id="1"),
    Progress(progress=3.0, total=10.0, message="counting"),
    Running(instance="a1"),
    Blob(subject="_INBOX.a.1", size=3, digest="sha256:" + "0" * 64),
    ErrorReply(code="overloaded", message="full", details={"retry_after_ms": 100, "deep": [{"a": None}]}),
    Submission(name="a", description="", source_repo="https://x", input_schema=msgspec.Raw(b"{}")),
    SubmissionAnswer(published=("a", "b"), verdicts=(VERDICT,)),
    RecordBatch(records=(Record(node="acme", tool="a", success=True, latency_ms=1.5, cost=0.25),)),
    StatisticsBatch(statistics=(Statistics(node="acme", tool="a", tally=Tally(count=20.0, successes=17.5)),)),
    Performance(
        node="acme", tool="a", count=2, successes=1, errors={"tool_failed": 1}, latency_sketch=b"\0\xff"
    ),
)
UNKNOWN = {"from_the_future": {"any": ["thing", 1, None]}}


def test_there_is_an_example_of_every_message() -> None:
    assert {type(example) for example in EXAMPLES} == set(MESSAGES)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_comes_back_from_the_wire_as_it_was(message: Message) -> None:
    payload = encode(message)
    assert encode(decode(payload, type(message))) == payload
    assert json.loads(payload)["type"] == type(message).__struct_config__.tag


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_fields_of_a_later_version_are_passed_over(message: Message) -> None:
    payload = encode(message)
    widened = json.dumps(json.loads(payload) | UNKNOWN).encode()
    assert json.loads(encode(decode(widened, type(message)))) == json.loads(payload)


def test_unknown_fields_inside_a_message_are_passed_over_too() -> None:
    payload = json.loads(encode(VERDICT))
    payload["findings"][0] |= UNKNOWN
    assert decode(json.dumps(payload).encode(), Verdict) == VERDICT


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_of_another_type_is_refused(message: Message) -> None:
    other = Cancel if not isinstance(message, Cancel) else Withdrawal
    with pytest.raises(InvalidRequest):
        decode(encode(message), other)
    untyped = {key: value for key, value in json.loads(encode(message)).items() if key != "type"}
    with pytest.raises(InvalidRequest):
        decode(json.dumps(untyped | {"type": "other"}).encode(), type(message))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_a_field_of_a_wrong_type_is_refused(message: Message) -> None:
    fields = json.loads(encode(message))
    wrong: Any = True
    for name in fields.keys() - {"type", "executable", "call_read_only", "input_schema"}:
        with pytest.raises(InvalidRequest):
            decode(json.dumps(fields | {name: wrong}).encode(), type(message))


@pytest.mark.parametrize("name", ["", "Acme", "a.b", "acme\n", "-acme", "x" * 64])
def test_a_message_of_a_node_that_cannot_be_is_refused(name: str) -> None:
    payload = json.dumps({"type": "withdrawal", "node": name, "name": "a"}).encode()
    with pytest.raises(InvalidRequest):
        decode(payload, Withdrawal)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "0" * 63, DIGEST + "\n", DIGEST.upper()])
def test_a_digest_that_cannot_be_is_refused(digest: str) -> None:
    payload = json.dumps(
        {"type": "verdict", "node": "acme", "name": "a", "digest": digest, "decision": "rejected"}
    ).encode()
    with pytest.raises(InvalidRequest):
        decode(payload, Verdict)


def test_what_stands_in_the_catalog_is_an_entry_or_a_withdrawal() -> None:
    kind: Any = CatalogMessage
    for message in EXAMPLES:
        if isinstance(message, CatalogMessage):
            assert type(decode(encode(message), kind)) is type(message)
        else:
            with pytest.raises(InvalidRequest):
                decode(encode(message), kind)


@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
def test_decoding_any_bytes_raises_nothing_but_invalid_request(kind: type[Message], payload: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(payload, kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(EXAMPLES), st.data())
def test_decoding_a_message_that_was_tampered_with_raises_nothing_but_invalid_request(
    message: Message, data: st.DataObject
) -> None:
    fields = json.loads(encode(message))
    name = data.draw(st.sampled_from(sorted(fields)))
    payload = json.dumps(fields | {name: data.draw(JSON)}).encode()
    try:
        decoded = decode(payload, type(message))
    except InvalidRequest:
        return
    assert decode(encode(decoded), type(message)) == decoded or isinstance(
        decoded,
        Registration | CatalogEntry | Submission,  # whose raw schemas compare by identity
    )


@given(st.sampled_from(EXAMPLES), st.integers(min_value=0, max_value=2000), st.integers(0, 255))
def test_decoding_cut_or_broken_messages_raises_nothing_but_invalid_request(
    message: Message, place: int, byte: int
) -> None:
    payload = bytearray(encode(message))
    payload[place % len(payload)] = byte
    for broken in (bytes(payload), encode(message)[: place % len(payload)]):
        try:
            decode(broken, type(message))
        except InvalidRequest:
            continue


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_too_deep_to_follow_is_refused(opening: str) -> None:
    depth = 100_000  # how deep Python follows is another matter in each of its versions
    closing = {"[": "]", '{"a":': "}"}[opening]
    deep = (opening * depth + "1" + closing * depth).encode()
    for payload, kind in (
        (b'{"type":"cancel","request_id":"1","unknown":' + deep + b"}", Cancel),
        (b'{"type":"error","code":"","message":"","details":{"a":' + deep + b"}}", ErrorReply),
        (b'{"type":"submission","name":"a","description":"","input_schema":' + deep + b"}", Submission),
    ):
        with pytest.raises(InvalidRequest):
            decode(payload, kind)
