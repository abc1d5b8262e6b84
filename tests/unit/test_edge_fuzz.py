"""Whatever somebody sends, the edge answers as documented, and never with a fault of its own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.contract.messages import Submission, SubmissionAnswer, Tool
from tests.support.edge_mesh import BusNode, Edge, ensure_streams, running_edge

PATHS = st.sampled_from(["/execute", "/metadata", "/register"])
NAMES = st.sampled_from(["echo", "words", "echo@home", "nothing", "a@b@c", "\0", "é" * 200]) | st.text()

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**30), 2**64, 1e308, 5e-324])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects near what an endpoint takes: each field right, wrong, or missing, and others beside them."""
    near = st.fixed_dictionaries({}, optional={name: right | json_values for name, right in fields.items()})
    return st.builds(
        lambda known, other: {**other, **known}, near, st.dictionaries(st.text(), json_values, max_size=2)
    )


executions = shaped(
    mcp_name=NAMES,
    args=st.lists(json_values, max_size=3),
    kwargs=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    timeout=st.floats(min_value=0.001, max_value=1000),
)
records = shaped(
    mcp_name=NAMES,
    success=st.booleans(),
    latency_ms=st.floats(min_value=0, max_value=1e10),
    cost=st.floats(min_value=0, max_value=1e10),
    error_kind=st.sampled_from(["overloaded", "?"]),
)
registrations = shaped(
    name=NAMES,
    description=st.text(),
    version=st.text(max_size=5),
    source_repo=st.text(),
    input_schema=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    server=shaped(url=st.sampled_from(["https://x.example", "ftp://x"]) | st.text()),
)

fuzz = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    async with MemoryBus() as bus:
        await ensure_streams(bus)
        node = BusNode(bus)

        async def echo(**arguments: Any) -> dict[str, Any]:
            return {"content": [], "structuredContent": arguments}

        async def describe(submission: Submission) -> SubmissionAnswer:
            await node.publish(Tool(name=submission.name, description=submission.description))
            return SubmissionAnswer(published=(submission.name,))

        node.on_submission = describe
        await node.start()
        await node.publish(Tool(name="echo", parameters=("a", "b")), echo)
        await node.publish(Tool(name="words"))
        async with running_edge(bus) as running:
            yield running


@fuzz
@given(path=PATHS, body=st.binary(max_size=200))
async def test_bytes_are_refused(edge: Edge, path: str, body: bytes) -> None:
    assert (await edge.post_bytes(path, body)).status in (204, 400)


@fuzz
@given(path=PATHS, body=json_values | executions | registrations | st.lists(records, max_size=4))
async def test_json_is_answered_or_refused_as_documented(edge: Edge, path: str, body: Any) -> None:
    # Written as others may: all escaped, or none.
    for ascii_only in (True, False):
        text = json.dumps(body, ensure_ascii=ascii_only)
        answer = await edge.post_bytes(path, text.encode("utf-8", "surrogatepass"))
        assert answer.status < 500


@fuzz
@given(kwargs=st.dictionaries(st.text(max_size=5), json_values, max_size=4))
async def test_any_json_comes_back_from_an_echo_as_it_went(edge: Edge, kwargs: dict[str, Any]) -> None:
    answer = await edge.post_bytes("/execute", json.dumps({"mcp_name": "echo", "kwargs": kwargs}).encode())
    expected = kwargs["result"] if kwargs.keys() == {"result"} else kwargs
    assert (answer.status, answer.json["result"]) == (200, expected)


@fuzz
@given(
    path=st.sampled_from(["/discover", "/metadata"]),
    query=st.lists(
        st.tuples(st.sampled_from(["node", "available", "q", "limit"]) | st.text(), st.text()), max_size=3
    ),
)
async def test_any_query_is_answered_or_refused(edge: Edge, path: str, query: list[tuple[str, str]]) -> None:
    assert (await edge.get(path, params=query)).status in (200, 400)


@fuzz
@given(method=st.sampled_from(["GET", "PUT", "PATCH", "OPTIONS", "TRACE", "X"]), path=st.text(max_size=20))
async def test_any_path_is_a_problem(edge: Edge, method: str, path: str) -> None:
    # Percent-encoded whole, so that it is a path and nothing else.
    escaped = "".join(f"%{byte:02X}" for byte in path.encode())
    assert (await edge.request(method, "/x" + escaped)).status in (404, 405)
