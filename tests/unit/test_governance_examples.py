"""docs/governance/checks.md and the examples in it: every check trips over one and lets the other pass."""

import runpy
from pathlib import Path

import pytest

from mcp_federation.governance.checks.check import Check
from mcp_federation.governance.checks.examples import EXAMPLES
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import SECURITY

ROOT = Path(__file__).parents[2]
CHECKS = [*QUALITY, *SECURITY]


def test_every_check_has_examples_and_every_example_a_check() -> None:
    assert set(EXAMPLES) == {check.rule for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.rule)
def test_a_check_trips_over_its_example_and_lets_the_other_pass(check: Check) -> None:
    examples = EXAMPLES[check.rule]
    assert list(check.findings(examples.trips.reading()))
    assert list(check.findings(examples.passes.reading())) == []


@pytest.mark.parametrize("rule", EXAMPLES)
def test_what_passes_one_check_is_approved_by_all(rule: str) -> None:
    reading = EXAMPLES[rule].passes.reading()
    grave = [f for f in (*SECURITY.run(reading), *QUALITY.run(reading)) if f.severity not in ("info", "low")]
    assert grave == []


def test_the_committed_document_is_what_the_code_says() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "checks.py"))["to_markdown"]()
    committed = (ROOT / "docs" / "governance" / "checks.md").read_text(encoding="utf-8")
    assert committed == written, "stale: run `python scripts/checks.py`"
