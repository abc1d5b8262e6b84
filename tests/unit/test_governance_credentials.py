"""Credentials in metadata: found, never shown, and told from placeholders."""

import base64
import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.governance.checks.quoting import context_before, quote
from mcp_federation.governance.checks.secret_shapes import find_likely_secrets, find_secrets, mask
from mcp_federation.governance.verdict import decide
from tests.support.registrations import (
    CLEAN,
    a_tool,
    quality_findings,
    rules,
    security_findings,
    unjudgeable,
)

_random = random.Random(7)


def _some(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Random, made here and nobody's; with digits, as real ones have."""
    return "7" + "".join(_random.choices(alphabet, k=length - 2)) + "3"


def _jwt() -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': _some(12)})}.{_some(43)}"


SECRETS = {
    "an AWS access key id": "AKIA" + _some(16, string.ascii_uppercase + "234567"),
    "a GitHub token": "ghp_" + _some(36),
    "a GitLab token": "glpat-" + _some(20),
    "a Slack token": f"xoxb-{_some(12, string.digits)}-{_some(24)}",
    "a Slack webhook address": f"https://hooks.slack.com/services/T{_some(9)}/B{_some(9)}/{_some(24)}",
    "a model provider's key": "sk-proj-" + _some(48),
    "a Stripe key": "sk_live_" + _some(24),
    "a Google API key": "AIza" + _some(35),
    "a Hugging Face token": "hf_" + _some(34),
    "an npm token": "npm_" + _some(36),
    "a PyPI token": "pypi-AgE" + _some(80),
    "a SendGrid key": f"SG.{_some(22)}.{_some(43)}",
    "a JSON Web Token": _jwt(),
    "a private key": f"-----BEGIN RSA PRIVATE KEY-----\n{_some(64)}\n{_some(64)}\n-----END RSA",
    "a password in a URL": f"postgres://reports:{_some(12)}@db.internal:5432/sales",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_credential_is_found_named_and_not_shown(kind: str) -> None:
    secret = SECRETS[kind]
    findings = security_findings(unjudgeable(a_tool(description=f"{CLEAN} Use {secret} to call it.")))
    assert decide(findings) == "rejected"
    (finding,) = findings
    assert (finding.rule, kind in finding.why) == ("credential-in-metadata", True)
    assert finding.where.startswith("description[")
    assert not any(secret[start : start + 12] in str(finding) for start in range(20, len(secret) - 12))


@pytest.mark.parametrize("kind", SECRETS)
def test_a_credential_in_a_schema_key_is_in_no_finding(kind: str) -> None:
    secret = SECRETS[kind]
    schema = {"type": 5, "properties": {f"x\u200b{secret}": {"type": "no such type"}, secret: {"type": 5}}}
    registration = unjudgeable(a_tool(schema=schema, name=secret[:128], version=secret[:200]))
    findings = security_findings(registration) + quality_findings(registration)
    assert "credential-in-metadata" in rules(findings)
    core = secret.rpartition("@")[0].rpartition(":")[2] if "@" in secret else secret[8:40]
    assert core not in str([finding.where + finding.why for finding in findings])


@pytest.mark.parametrize(
    "text",
    [
        "Set api_key=YOUR_API_KEY, or export OPENAI_API_KEY=sk-...",
        "sk-your-api-key-here-1234567890 and sk-xxxxxxxxxxxxxxxxxxxxxxxx3",
        "AKIAIOSFODNN7EXAMPLE and ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1",
        "postgresql://user:password@localhost:5432/mydb or mysql://root:${DB_PASS}@host/db",
        "redis://:<password>@host and mongodb://admin:admin123@host/",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "token: the bearer token, max_tokens=4096, keyword: forecastingtheweather",
        "page_token=https://api.acme.test/v1/list?page=2b7c9 continues",
        "The commit 9fceb02d0ae598e95dc970b74767f19372d61af8 and id 550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_placeholders_and_plain_identifiers_are_not_credentials(text: str) -> None:
    assert security_findings(unjudgeable(a_tool(description=text))) == []


@pytest.mark.parametrize(
    "text", [f"api_key={_some(32)}", f'"secret": "{_some(24)}"', f"Authorization token => {_some(40)}"]
)
def test_a_random_value_behind_a_telling_name_is_quarantined(text: str) -> None:
    findings = security_findings(unjudgeable(a_tool(description=text)))
    assert (decide(findings), rules(findings)) == ("quarantined", {"likely-credential"})


@pytest.mark.parametrize("keyword", ["default", "const", "examples"])
def test_a_random_value_of_a_parameter_with_a_telling_name_is_quarantined(keyword: str) -> None:
    value = _some(32)
    schema = {
        "type": "object",
        "properties": {"apiKey": {keyword: [value] if keyword == "examples" else value}},
    }
    (finding,) = security_findings(unjudgeable(a_tool(schema=schema)))
    assert finding.rule == "likely-credential"
    assert finding.where.startswith(f"inputSchema/properties/apiKey/{keyword}")
    assert value not in str(finding)


def test_a_credential_of_a_known_kind_is_not_told_twice() -> None:
    findings = security_findings(unjudgeable(a_tool(description=f"api_key={SECRETS['a GitHub token']}")))
    assert rules(findings) == {"credential-in-metadata"}


def test_a_text_full_of_credentials_gives_a_bounded_number_of_findings() -> None:
    text = " ".join("ghp_" + _some(36) for _ in range(200))
    assert 0 < len(security_findings(unjudgeable(a_tool(description=text)))) <= 10


def test_a_quote_masks_a_credential_that_hidden_characters_cut_in_pieces() -> None:
    secret = SECRETS["a GitHub token"]
    assert secret[8:] not in quote(f"{secret[:9]}\u200b{secret[9:]}", 200).replace("\\u200b", "")


def test_the_words_before_a_place_leave_out_what_could_be_a_piece_of_a_credential() -> None:
    text = f"the key {SECRETS['a Google API key']} is"
    assert context_before(text, len(text)) == "… is"


@given(st.text(max_size=300))
def test_a_mask_leaves_text_without_credentials_alone(text: str) -> None:
    if not find_secrets(text) and not find_likely_secrets(text):
        assert mask(text) == text


@given(st.text(max_size=40), st.sampled_from(sorted(SECRETS.values())), st.text(max_size=40))
def test_a_mask_holds_in_any_surroundings(before: str, secret: str, after: str) -> None:
    text = f"{before} {secret} {after}"
    masked = mask(text)
    for found in find_secrets(text):
        assert text[found.start : found.end] not in masked
