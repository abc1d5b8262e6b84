"""The index of decisions has each of them, by its own title."""

import re
from pathlib import Path

import pytest

ADR = Path(__file__).parents[2] / "docs" / "adr"
PAGES = sorted(page for page in ADR.glob("0*.md") if not page.name.startswith("0000"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_stands_in_the_index_by_its_title(page: Path) -> None:
    title = re.match(r"# (\d+)\. (.+)\n", page.read_text())
    assert title is not None
    assert f"| [{title[1]}]({page.name}) | {title[2]} | " in (ADR / "README.md").read_text()
