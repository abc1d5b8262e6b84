"""The source roots share one import namespace, and nothing is defined in two of them."""

from collections import Counter
from pathlib import Path

import pytest

ROOTS = [Path(__file__).parents[2] / name for name in ("shared", "engine", "services")]


@pytest.mark.parametrize(
    "package", ["mcp_federation", "alita_kgot_enhanced", "alita_kgot_enhanced/federation"]
)
def test_no_root_claims_the_namespace_for_itself(package: str) -> None:
    assert [root for root in ROOTS if (root / package).is_dir()]
    for root in ROOTS:
        assert not (root / package / "__init__.py").exists()


def test_no_submodule_is_defined_in_two_roots() -> None:
    defined = Counter(
        module
        for root in ROOTS
        for module in {path.relative_to(root).with_suffix("") for path in root.rglob("*.py")}
        | {
            path.relative_to(root)
            for path in root.glob("mcp_federation/*")
            if path.is_dir() and any(path.rglob("*.py"))
        }
    )
    assert len(defined) > 50
    assert [str(module) for module, roots in defined.items() if roots > 1] == []
