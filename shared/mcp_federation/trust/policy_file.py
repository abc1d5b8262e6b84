"""Reads a policy: a preset by its name, or a TOML file on top of one. Errors name the line and the key."""

import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from mcp_federation.contract.messages import SEVERITIES, Severity
from mcp_federation.contract.names import check_node_name
from mcp_federation.errors import InvalidRequest
from mcp_federation.trust.policy import PRESETS, Action, Policy, ProbePolicy, RulePolicy
from mcp_federation.trust.rules import ALL_SUITES, RULES

_Keys = tuple[str, ...]
_HEADER: Final = re.compile(r"\s*\[\s*(.+?)\s*\]\s*(?:#.*)?")
_ASSIGNMENT: Final = re.compile(r"\s*([^=#\[]+?)\s*=")
_AT: Final = re.compile(r" - at `\$\.?([A-Za-z_.]*)[^`]*`$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`")

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

T = TypeVar("T")


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One level of the file: its top, or the table of an organisation."""

    preset: str = ""
    severities: dict[str, Any] = {}
    rules: dict[str, dict[str, Any]] = {}
    required: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    widening: Action | UnsetType = UNSET
    reviewed: bool | UnsetType = UNSET
    probe: dict[str, Any] | UnsetType = UNSET
    organisations: dict[str, dict[str, Any]] = {}


def load_policy(source: str) -> Policy:
    """The preset of that name, or the policy in that file.

    Raises:
        InvalidRequest: there is no such file, or it is no policy.
    """
    if source in PRESETS:
        return PRESETS[source]
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(
            f"cannot read the policy {source!r}: {why}; presets are {', '.join(PRESETS)}"
        ) from None
    return parse_policy(text, path.name)


def parse_policy(text: str, name: str) -> Policy:
    """The policy that a TOML text describes; errors call it by `name`.

    Raises:
        InvalidRequest: it is no TOML, or no policy, or has a name that nothing goes by; the message tells the
            line and the key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"the policy {name} is not TOML: {error}") from None
    return _Reader(text, name).read(document)


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name

    def read(self, document: Mapping[str, Any]) -> Policy:
        table = self._convert(document, _Table, ())
        base = replace(self._preset(table, (), PRESETS["standard"]), name=self._name)
        whole = self._apply(table, base, ())
        organisations = {}
        for node, own in table.organisations.items():
            keys = ("organisations", node)
            try:
                check_node_name(node)
            except InvalidRequest as error:
                self._fail(keys, error.message)
            inner = self._convert(own, _Table, keys)
            if inner.organisations:
                self._fail((*keys, "organisations"), "organisations do not nest")
            start = self._preset(inner, keys, whole)
            if inner.preset:  # the lists of names hold for everybody
                start = replace(start, allow=whole.allow, deny=whole.deny)
            named = replace(start, name=f"{self._name} for {node}")
            organisations[node] = self._apply(inner, named, keys)
        return replace(whole, organisations=organisations)

    def _preset(self, table: _Table, keys: _Keys, otherwise: Policy) -> Policy:
        if not table.preset:
            return otherwise
        if table.preset not in PRESETS:
            self._unknown((*keys, "preset"), "preset", table.preset, PRESETS)
        return PRESETS[table.preset]

    def _apply(self, table: _Table, base: Policy, keys: _Keys) -> Policy:
        for suite in table.required:
            if suite not in ALL_SUITES:
                self._unknown((*keys, "required"), "suite", suite, ALL_SUITES)
        return replace(
            base,
            severities={**base.severities, **self._severities(table, keys)},
            rules={**base.rules, **self._rules(table, keys)},
            required=table.required or base.required,
            allow=(*base.allow, *table.allow),
            deny=(*base.deny, *table.deny),
            widening=base.widening if table.widening is UNSET else table.widening,
            reviewed=base.reviewed if table.reviewed is UNSET else table.reviewed,
            probe=self._probe(table, base, keys),
        )

    def _probe(self, table: _Table, base: Policy, keys: _Keys) -> ProbePolicy | None:
        if table.probe is UNSET:
            return base.probe
        return self._convert(table.probe, ProbePolicy, (*keys, "probe"))

    def _severities(self, table: _Table, keys: _Keys) -> dict[Severity, Action]:
        severities: dict[Severity, Action] = {}
        for severity, action in table.severities.items():
            at = (*keys, "severities", severity)
            if severity not in SEVERITIES:
                self._unknown(at, "severity", severity, SEVERITIES)
            if action not in ACTIONS:
                self._fail(at, f"it is one of {', '.join(ACTIONS)}")
            severities[severity] = action
        return severities

    def _rules(self, table: _Table, keys: _Keys) -> dict[str, RulePolicy]:
        rules = {}
        for name, fields in table.rules.items():
            at = (*keys, "rules", name)
            if name not in RULES:
                self._unknown(at, "rule", name, RULES)
            rules[name] = rule = self._convert(fields, RulePolicy, at)
            if (rule.quarantine_at or 0) > (1 if rule.reject_at is None else rule.reject_at):
                self._fail((*at, "quarantine_at"), "it is above reject_at")
        return rules

    def _unknown(self, keys: _Keys, kind: str, name: str, known: Collection[str]) -> NoReturn:
        nearest = get_close_matches(name, known, 1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        self._fail(keys, f"there is no {kind} {name!r}.{hint} Known are {', '.join(sorted(known))}.")

    def _convert(self, value: Any, kind: type[T], keys: _Keys) -> T:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            message = str(error)
            inside = match[1] if (match := _AT.search(message)) else ""
            unknown = match[1] if (match := _UNKNOWN.search(message)) else ""
            where = tuple(part for part in (*inside.split("."), unknown) if part)
            self._fail((*keys, *where), "there is no such key" if unknown else _AT.sub("", message))

    def _fail(self, keys: _Keys, why: str) -> NoReturn:
        line = _line_of(self._text, keys)
        place = f"line {line}, " if line else ""
        raise InvalidRequest(f"the policy {self._name}, {place}{'.'.join(keys) or 'as a whole'}: {why}")


def _line_of(text: str, keys: _Keys) -> int:
    """The line, from 1, where a key stands, or the innermost table that holds it; 0 where neither does."""
    table: _Keys = ()
    best, best_length = 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            at = table = _parse_keys(header[1])
        elif assignment := _ASSIGNMENT.match(line):
            at = (*table, *_parse_keys(assignment[1]))
        else:
            continue
        length = min(len(at), len(keys))
        if length > best_length and at[:length] == keys[:length]:
            best, best_length = number, length
    return best


def _parse_keys(text: str) -> _Keys:
    try:
        found: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return ("",)
    keys: list[str] = []
    while isinstance(found, dict):
        ((key, found),) = found.items()
        keys.append(key)
    return tuple(keys)
