"""Lines of values in JSON files, whatever stands in them."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_federation.cli.json_lines import FileLines, Keys, places

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def leaves(value: Any, keys: Keys = ()) -> dict[Keys, str]:
    """Each value that holds no other, as JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {place: text for key, item in inner for place, text in leaves(item, (*keys, str(key))).items()}
    return found if found or (isinstance(value, dict | list) and value) else {keys: json.dumps(value)}


@given(documents)
@settings(max_examples=100)
def test_each_value_stands_on_the_line_that_is_told(document: Any) -> None:
    text = json.dumps(document, indent=1)
    lines = places(text).lines
    for keys, value in leaves(document).items():
        assert value.rstrip("]}") in text.split("\n")[lines[keys] - 1]


@given(st.text(alphabet='{}[],:" \n\\abc'))
@settings(max_examples=100)
def test_no_text_is_too_broken(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in places(text).lines.values())


def test_what_does_not_stand_in_the_file_is_shown_where_its_tool_or_server_does(tmp_path: Path) -> None:
    tools, servers, gone = tmp_path / "tools.json", tmp_path / "servers.json", tmp_path / "gone.json"
    tools.write_text('{"tools": [\n{\n"name": "a",\n"inputSchema": {"properties": {\n"x/y": {}}}}]}')
    servers.write_text('{"mcpServers": {\n"one": {},\n"two": {}}}')
    lines = FileLines()
    for where, line in (
        ("name[0]", 3),
        ("title", 3),
        ("", 3),
        ("inputSchema/type", 4),
        ("inputSchema/properties/x~1y (the name)[1]", 5),
        ("inputSchema/properties/x~1y/description[4]", 5),
    ):
        assert lines.of(tools, "s", "a", where) == line, where
    assert lines.of(servers, "two", "unlisted", "description") == 3
    assert lines.of(servers, "three", "", "") == 1
    assert lines.of(gone, "s", "a", "name") == 1
