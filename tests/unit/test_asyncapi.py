"""docs/asyncapi.yaml: says what the code does, and is a sound AsyncAPI 3.0 document."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml

from mcp_federation.contract import subjects
from mcp_federation.contract.asyncapi import document
from mcp_federation.contract.mcp import CallParams, CallResult
from mcp_federation.contract.messages import (
    MESSAGES,
    CatalogEntry,
    ErrorReply,
    Presence,
    ServerState,
    Tool,
    encode,
)
from mcp_federation.contract.subjects import STREAMS, Header, Template

ROOT = Path(__file__).parents[2]
DOCUMENT = document()
TEMPLATES = [value for value in vars(subjects).values() if isinstance(value, Template)]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from walk(item)


def resolve(reference: str) -> Any:
    target: Any = DOCUMENT
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        target = target[step]
    return target


def schema_of(message: str) -> Any:
    reference = DOCUMENT["components"]["messages"][message]["payload"]["$ref"]
    return {"$ref": reference, "components": DOCUMENT["components"]}


def test_the_committed_document_is_what_the_code_says() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "asyncapi.py"))["to_yaml"]()
    committed = (ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
    assert committed == written, "stale: run `python scripts/asyncapi.py`"
    assert yaml.safe_load(committed) == DOCUMENT


def test_it_has_what_asyncapi_3_requires() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"].keys() >= {"title", "version"}
    for server in DOCUMENT["servers"].values():
        assert server.keys() >= {"host", "protocol"}
    for channel in DOCUMENT["channels"].values():
        assert channel["messages"]
        placeholders = [t[1:-1] for t in (channel["address"] or "").split(".") if t.startswith("{")]
        assert placeholders == list(channel.get("parameters", {}))
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for parameter in DOCUMENT["components"]["parameters"].values():
        assert parameter.keys() <= {"enum", "default", "description", "examples", "location"}


def test_every_reference_leads_somewhere() -> None:
    references = [node["$ref"] for node in walk(DOCUMENT) if "$ref" in node]
    assert len(references) > 50
    for reference in references:
        assert isinstance(resolve(reference), dict)


def test_an_operation_names_messages_of_its_own_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        for part in (operation, operation.get("reply")):
            for message in part["messages"] if part else []:
                assert message["$ref"].startswith(part["channel"]["$ref"] + "/messages/")


def test_every_subject_stream_message_and_header_is_in_it() -> None:
    channels = DOCUMENT["channels"].values()
    assert sorted(c["address"] for c in channels if c["address"]) == sorted(t.address for t in TEMPLATES)
    kept = {c["x-stream"]["name"]: c["address"] for c in channels if "x-stream" in c}
    assert kept == {stream.name: stream.template.address for stream in STREAMS}
    said = {message for channel in channels for message in channel["messages"]}
    assert said == {kind.__name__ for kind in MESSAGES} | {CallParams.__name__, CallResult.__name__}
    headers = {
        name
        for message in DOCUMENT["components"]["messages"].values()
        for name in message.get("headers", {}).get("properties", {})
    }
    assert headers == {value for name, value in vars(Header).items() if name.isupper()}


def test_every_request_says_what_answers_it() -> None:
    for name, operation in DOCUMENT["operations"].items():
        channel = resolve(operation["channel"]["$ref"])
        assert ("reply" in operation) == (channel["x-pattern"] == "request-reply"), name
    reply = DOCUMENT["operations"]["sendExecute"]["reply"]["messages"]
    answers = [message["$ref"].rpartition("/")[2] for message in reply]
    assert answers == ["CallResult", "Blob", "Progress", "Running", "ErrorReply"]


def test_every_schema_is_a_json_schema() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert "\n  " not in schema.get("description", ""), name


@pytest.mark.parametrize(
    "message",
    [
        CatalogEntry(
            node="acme",
            tool=Tool(name="a", output_schema=msgspec.Raw(b"true"), annotations=msgspec.Raw(b"{}")),
            digest="sha256:" + "0" * 64,
            approval="a.b.c",
        ),
        Presence(
            node="acme",
            instance="1",
            interval=2,
            catalog_hash="",
            servers=(ServerState(name="a", state="ready"),),
        ),
        ErrorReply(code="overloaded", message="full", details={"retry_after_ms": 100}),
        CallParams(name="a", arguments={"x": [1, None]}),
        CallResult(content=[{"type": "text", "text": "a"}], structured_content={"a": 1}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_the_code_sends_fits_the_schema_and_nonsense_does_not(message: msgspec.Struct) -> None:
    schema = schema_of(type(message).__name__)
    sent = msgspec.json.decode(encode(message))
    jsonschema_rs.validate(schema, sent)
    jsonschema_rs.validate(schema, sent | {"from_the_future": 1})
    assert not jsonschema_rs.is_valid(schema, [])
    assert not jsonschema_rs.is_valid(schema, dict.fromkeys(sent, 0))


def test_the_text_tells_how_to_take_part() -> None:
    told = DOCUMENT["info"]["description"]
    for word in (
        "MCPFED_CATALOG",
        "execute_subject",
        "tools/call",
        "CallToolResult",
        "=2E",
        "RFC 8785",
        "kid",
    ):
        assert word in told
