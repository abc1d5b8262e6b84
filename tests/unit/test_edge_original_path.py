"""The import path and the command line of the original Quick Start."""

import importlib
import sys

import pytest

from mcp_federation.cli import main as cli
from mcp_federation.edge.app import create_app
from mcp_federation.engine.sources import partner

ORIGINAL = "alita_kgot_enhanced.federation.mcp_federation"


def test_the_original_path_offers_the_federations_functions() -> None:
    module = importlib.import_module(ORIGINAL)
    assert module.remote_discover is partner.remote_discover
    assert module.remote_execute is partner.remote_execute
    assert module.create_app is create_app


@pytest.mark.parametrize("given", [None, ["--host", "0.0.0.0", "--port", "8000"]])
def test_running_it_is_running_up_with_the_same_flags(
    monkeypatch: pytest.MonkeyPatch, given: list[str] | None
) -> None:
    seen: list[list[str] | None] = []
    monkeypatch.setattr(cli, "main", seen.append)
    monkeypatch.setattr(sys, "argv", ["mcp_federation", "--host", "0.0.0.0", "--port", "8000"])
    importlib.import_module(ORIGINAL).main(given)
    assert seen == [["up", "--host", "0.0.0.0", "--port", "8000"]]
