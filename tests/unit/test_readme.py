"""What the README says of the settings is what they are."""

from pathlib import Path

import pytest

from mcp_federation.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_readme_lists_every_setting_with_its_default_and_meaning(name: str) -> None:
    field = Settings.model_fields[name]
    default = "" if field.default in (None, ()) else f"`{field.default}`"
    assert f"| `MCP_FEDERATION_{name.upper()}` | {default} | {field.description} |" in README
