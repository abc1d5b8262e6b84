"""Addresses that others will follow: plain http and https, never a machine's own credentials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.registrations import (
    a_tool,
    rules,
    security_findings,
    unjudgeable,
)


def found(url: str, field: str = "server_url") -> set[str]:
    return rules(security_findings(unjudgeable(a_tool(), **{field: url})))


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/custom_super_tool",
        "http://127.0.0.1:8080/mcp",
        "http://localhost:9/mcp",
        "http://[::1]:8080/mcp",
        "http://10.1.2.3/mcp",
        "http://192.168.0.7/mcp",
        "http://mcp-server:8000/mcp",
        "https://münchen.example/mcp?x=1#y",
        "https://metadata-tools.example.com/mcp",
        "http://1169.254.example/",
        "",
    ],
)
def test_plain_addresses_of_ones_own_and_of_others_are_allowed(url: str) -> None:
    assert found(url) == found(url, "source_repo") == set()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "ssh://git@github.com/acme/x",
        "git@github.com:acme/x.git",
        "github.com/acme/x",
        "//example.com/x",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://:@example.com/",
        "https://example.com\\@evil.example/",
        "https://example.com/a b",
        "https://exa\tmple.com/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://ex%61mple.com/",
        f"https://example.com/{'x' * 3000}",
    ],
)
def test_an_address_that_is_no_plain_http_one_is_refused(url: str) -> None:
    assert "unsafe-url" in found(url)
    assert "unsafe-url" in found(url, "source_repo")


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.169.254.",
        "2852039166",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "\uff11\uff16\uff19\u3002\uff12\uff15\uff14\u3002\uff11\uff16\uff19\u3002\uff12\uff15\uff14",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[::ffff:169.254.169.254]",
        "[::169.254.169.254]",
        "[2002:a9fe:a9fe::]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "192.0.0.192",
        "metadata.google.internal",
        "METADATA",
        "instance-data.ec2.internal",
        "169.254.169.254.nip.io",
        "app-169-254-169-254.sslip.io",
        "a9fea9fe.nip.io",
    ],
)
def test_every_spelling_of_a_metadata_address_is_refused(host: str) -> None:
    for url in (f"http://{host}/latest/meta-data/", f"https://{host}:8080", f"http://user@{host}/"):
        assert "cloud-metadata-url" in found(url)


def test_a_password_in_an_address_is_not_shown() -> None:
    registration = unjudgeable(a_tool(), server_url="https://bob:Zk38fjQpw71x@example.com/mcp")
    findings = security_findings(registration)
    assert rules(findings) == {"unsafe-url", "credential-in-metadata"}
    assert "Zk38fjQpw71x" not in str(findings)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://[", "http://a@", "//"]))
def test_no_address_breaks_the_check(text: str, start: str) -> None:
    security_findings(unjudgeable(a_tool(), server_url=start + text, source_repo=text))
