"""Results as bytes: what breaks the contract of MCP, or of the tool, goes no further than its node."""

import json

import mcp_types
import pytest

from mcp_federation.contract.text import PIECE
from mcp_federation.node.servers.calls.declared import Declared
from mcp_federation.node.servers.calls.results import BrokenContract, Results

CONTENT = b'{"content":[],"structuredContent":'


@pytest.fixture(params=["without a schema", "with a schema"])
def results(request: pytest.FixtureRequest) -> Results:
    declared = Declared()
    schema = {"type": "object"} if request.param == "with a schema" else None
    tool = mcp_types.Tool(name="echo", input_schema={"type": "object"}, output_schema=schema)
    declared.take([tool])
    return Results(declared, 10_000_000)


@pytest.mark.parametrize("size", [0, PIECE - len(CONTENT) - 1, 3 * PIECE])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98"])
def test_a_result_that_is_not_utf8_breaks_the_contract(results: Results, bad: bytes, size: int) -> None:
    with pytest.raises(BrokenContract):
        results.read("echo", CONTENT + b'{"v":"' + b"a" * size + bad + b'"}}')
    with pytest.raises(BrokenContract):
        results.read("echo", b'{"content":[],"structuredContent":{},"x":"' + b"a" * size + bad + b'"}')


@pytest.mark.parametrize("shift", range(4))
def test_characters_may_lie_anywhere_in_a_large_result(results: Results, shift: int) -> None:
    text = "a" * shift + "\N{GRINNING FACE}" * PIECE
    given = {"content": [], "structuredContent": {"v": text}}
    read = results.read("echo", json.dumps(given, ensure_ascii=False).encode())
    assert json.loads(read.result) == given


@pytest.mark.parametrize("number", [b"1e999", b"1" * 5000])
def test_structured_content_that_cannot_be_read_breaks_the_contract_of_a_schema(number: bytes) -> None:
    declared = Declared()
    tool = mcp_types.Tool(name="n", input_schema={"type": "object"}, output_schema={"type": "object"})
    declared.take([tool])
    with pytest.raises(BrokenContract):
        Results(declared, 10_000).read("n", CONTENT + b'{"v":' + number + b"}}")
