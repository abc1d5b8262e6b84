"""The documentation holds together: links lead somewhere, and the index of decisions has each of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADR = ROOT / "docs" / "adr"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "engine").rglob("*.md")])
DECISIONS = sorted(page for page in ADR.glob("0*.md") if not page.name.startswith("0000"))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_documentation_leads_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:|mailto:|…)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_stands_in_the_index_by_its_title(page: Path) -> None:
    title = re.match(r"# (\d+)\. (.+)\n", page.read_text())
    assert title is not None
    assert f"| [{title[1]}]({page.name}) | {title[2]} | " in (ADR / "README.md").read_text()
