"""Security: credentials that were left in what everybody can read. Pure."""

from collections.abc import Iterator

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.reading import Reading, Text
from mcp_federation.governance.checks.secret_shapes import (
    Secret,
    find_likely_secrets,
    find_secrets,
    masked,
    may_name_secrets,
    possible_kinds,
)

_REMEDY = (
    "Revoke the credential now: it has left your hands. Then take it out of the text and have the server "
    "read it from its own environment; in documentation write a placeholder such as YOUR_API_KEY."
)


@check(
    "credential-in-metadata",
    "high",
    rationale="What is published is read by every organisation and every model; a key in it is a key lost.",
    remedy=_REMEDY,
)
def credential(reading: Reading) -> Iterator[Sighting]:
    """Credentials of known kinds, anywhere."""
    kinds = possible_kinds(reading.everything)
    for text in reading.texts if kinds else ():
        yield from _sightings(text, find_secrets(text.text, kinds))


@check(
    "likely-credential",
    "medium",
    rationale="A random value under a name such as api_key is most often a key of a kind that is not listed.",
    remedy=_REMEDY,
)
def likely_credential(reading: Reading) -> Iterator[Sighting]:
    """Random values that are named like a credential."""
    if not may_name_secrets(reading.everything):
        return
    for text in reading.texts:
        yield from _sightings(text, find_likely_secrets(text.text, "" if text.is_key else text.label))


def _sightings(text: Text, secrets: list[Secret]) -> Iterator[Sighting]:
    for secret in secrets:
        shown = masked(text.text[secret.start : secret.end])
        yield Sighting(text.at(secret.start), f"the text holds {secret.kind} ({shown})")


CHECKS: tuple[Check, ...] = (credential, likely_credential)
