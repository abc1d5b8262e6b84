"""Findings as SARIF 2.1.0, the form that code scanning shows where a team already looks. Pure but for files.

A finding on a tool that stands in a file points to the line of what was found; one on a live server to the
server's address, and to the tool by its name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mcp_federation.cli.json_lines import FileLines
from mcp_federation.contract.messages import Finding, Severity
from mcp_federation.governance.quality import QUALITY
from mcp_federation.governance.security import SECURITY
from mcp_federation.version import VERSION

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final[dict[Severity, str]] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "info": "note",
}
_SECURITY_SEVERITY: Final[dict[Severity, str]] = {
    "critical": "9.5",
    "high": "8.0",
    "medium": "5.5",
    "low": "3.0",
    "info": "0.0",
}
"""The scores by which code scanning sorts, within the bands of CVSS that go by these names."""


@dataclass(frozen=True)
class Result:
    """A finding, and the tool of which server in which file it is on; no tool: on the server itself."""

    finding: Finding
    server: str
    tool: str
    origin: str
    file: Path | None
    excerpt: str = ""


def sarif(results: Iterable[Result]) -> dict[str, Any]:
    """The SARIF log of one run."""
    results = list(results)
    rules = list(dict.fromkeys(result.finding.rule for result in results))
    lines = FileLines()
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "mcp-federation",
                        "semanticVersion": VERSION,
                        "rules": [_rule(rule, results) for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(result, rules.index(result.finding.rule), lines) for result in results],
            }
        ],
    }


def _rule(rule: str, results: list[Result]) -> dict[str, Any]:
    first = next(result.finding for result in results if result.finding.rule == rule)
    rationale = _RATIONALES.get(rule, first.why)
    return {
        "id": rule,
        "name": "".join(word.capitalize() for word in rule.split("-")),
        "shortDescription": {"text": rule.replace("-", " ")},
        "fullDescription": {"text": rationale},
        "help": {"text": first.remedy},
        "defaultConfiguration": {"level": _LEVELS[first.severity]},
        "properties": {
            "tags": ["security" if rule in _SECURITY_RULES else "quality", "mcp"],
            "security-severity": _SECURITY_SEVERITY[first.severity],
        },
    }


def _result(result: Result, index: int, lines: FileLines) -> dict[str, Any]:
    finding = result.finding
    place = "/".join(filter(None, (result.server, result.tool, finding.where)))
    message = f"{place}: {finding.why}. {finding.remedy}"
    told: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": message},
        "locations": [
            {
                "physicalLocation": _physical(result, lines),
                "logicalLocations": [{"fullyQualifiedName": place, "kind": "member"}],
            }
        ],
        "partialFingerprints": {"mcpFederation/v1": sha256(f"{finding.rule}\0{place}".encode()).hexdigest()},
    }
    if result.excerpt:
        told["properties"] = {"excerpt": result.excerpt}
    if finding.probability is not None:
        told["rank"] = round(100 * finding.probability, 1)
    return told


def _physical(result: Result, lines: FileLines) -> dict[str, Any]:
    if result.file is None:
        address = result.origin if result.origin.startswith(("http://", "https://")) else quote(result.server)
        return {"artifactLocation": {"uri": address}, "region": {"startLine": 1}}
    line = lines.of(result.file, result.server, result.tool, result.finding.where)
    return {"artifactLocation": {"uri": quote(result.file.as_posix())}, "region": {"startLine": line}}


_SECURITY_RULES: Final = frozenset(check.rule for check in SECURITY)
_RATIONALES: Final = {check.rule: check.rationale for suite in (SECURITY, QUALITY) for check in suite}
