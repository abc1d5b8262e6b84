"""Settings: from the environment, overridden by what was said, refused with the name of what does not fit."""

from pathlib import Path
from typing import Any

import pytest

from mcp_federation.errors import InvalidRequest
from mcp_federation.settings import load_settings


def test_without_an_environment_everything_has_a_default() -> None:
    settings = load_settings()
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert (settings.token, settings.nodes, settings.trusted_keys) == (None, (), ())


def test_the_environment_is_read_and_what_is_given_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_FEDERATION_NODE", "acme")
    monkeypatch.setenv("MCP_FEDERATION_PORT", "9000")
    monkeypatch.setenv("MCP_FEDERATION_NODES", " https://a.example:8080, ,nats://b ,")
    settings = load_settings(port=0, node=None, state_dir=Path("x"))
    assert (settings.node, settings.port, settings.state_dir) == ("acme", 0, Path("x"))
    assert settings.nodes == ("https://a.example:8080", "nats://b")


def test_a_token_is_kept_from_view_and_an_empty_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_FEDERATION_TOKEN", "s3cret")
    settings = load_settings()
    assert settings.token is not None
    assert settings.token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)
    assert load_settings(token="").token is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("port", "http"),
        ("node", "Acme"),
        ("node", "acme\n"),
        ("log_level", "loud"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"bad settings: {name}: "):
        load_settings(**{name: value})


def test_a_list_may_be_given_as_one() -> None:
    assert load_settings(nodes=["https://a", "nats://b"]).nodes == ("https://a", "nats://b")
