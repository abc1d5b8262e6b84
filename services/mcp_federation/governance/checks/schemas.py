"""Quality: whether the schemas and annotations can be relied on by who calls the tool. Pure.

Nothing is fetched: a reference that leads out of the schema is refused, not followed.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Document, Reading, Text, render_path
from mcp_federation.governance.checks.references import reference_problem

MAX_PATTERNS: Final = 32
MAX_PROPERTIES: Final = 256
LARGE_SCHEMA: Final = 32 * 1024
"""Bytes."""

_SCHEMAS = ("inputSchema", "outputSchema")
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SHOWN_NAMES = 5
_KEPT = 16  # outcomes kept for the next check of the same reading


@check(
    "not-json",
    "high",
    rationale="What does not parse cannot be checked, and every reader makes something else of it.",
    remedy="Have the server list valid JSON (in UTF-8, with no unpaired surrogates).",
)
def not_json(reading: Reading) -> Iterator[Sighting]:
    """Schemas and annotations that do not parse."""
    for document in reading.documents:
        if document.problem and not document.over_bounds:
            yield Sighting(document.field, document.problem)


@check(
    "schema-over-bounds",
    "high",
    rationale="What is over the bounds is not checked, and costs every consumer time and memory.",
    remedy="Make the schema smaller and flatter: fewer levels, fewer alternatives, fewer patterns.",
)
def over_bounds(reading: Reading) -> Iterator[Sighting]:
    """Schemas and annotations that are larger or deeper than is read."""
    for document in reading.documents:
        problem = document.problem if document.over_bounds else _compile_cost(document)
        if problem:
            yield Sighting(document.field, problem)


@check(
    "schema-large",
    "low",
    rationale="Every agent that is offered the tool pays for its schema in tokens.",
    remedy=f"Keep a schema under {LARGE_SCHEMA // 1024} KiB and {MAX_PROPERTIES} properties.",
)
def large(reading: Reading) -> Iterator[Sighting]:
    """Schemas that cost a lot of tokens."""
    tool = reading.registration.tool
    for field, raw in (("inputSchema", tool.input_schema), ("outputSchema", tool.output_schema)):
        if raw is not None and len(bytes(raw)) > LARGE_SCHEMA:
            yield Sighting(field, f"the schema has {len(bytes(raw)):,} bytes")
    names = len(_properties(reading))
    if names > MAX_PROPERTIES:
        yield Sighting("inputSchema/properties", f"there are {names} parameters")


@check(
    "input-schema-not-object",
    "high",
    rationale="Arguments are an object by name; a schema of anything else refuses every call.",
    remedy='Give the input schema "type": "object" and list the parameters under "properties".',
)
def not_object(reading: Reading) -> Iterator[Sighting]:
    """Input schemas of something else than an object."""
    document = reading.document("inputSchema")
    if document is None or document.problem:
        return
    if not isinstance(document.value, dict):
        yield Sighting("inputSchema", "the input schema is no JSON object")
    elif "type" in document.value and document.value["type"] != "object":
        found = quote(str(document.value["type"]))
        yield Sighting("inputSchema/type", f"the type of the arguments is {found}, not object")


@check(
    "input-schema-untyped",
    "info",
    rationale='MCP asks for "type": "object"; without it the schema also takes what is no object.',
    remedy='Add "type": "object" to the input schema.',
)
def untyped(reading: Reading) -> Iterator[Sighting]:
    """Input schemas that do not say that they are of an object."""
    document = reading.document("inputSchema")
    if document and isinstance(document.value, dict) and document.value and "type" not in document.value:
        yield Sighting("inputSchema", "the input schema does not say that the arguments are an object")


@check(
    "invalid-schema",
    "high",
    rationale="Arguments are checked against the schema before a tool runs; an invalid one checks nothing.",
    remedy="Mend the schema at that place, under the dialect that its $schema names (2020-12 if none).",
)
def invalid(reading: Reading) -> Iterator[Sighting]:
    """Schemas that their dialect does not allow."""
    for document in _schemas(reading):
        error = _compile_error(document)
        if error is not None and not _is_reference(error):
            yield Sighting(
                _where(document, error), f"not valid JSON Schema: {quote(_first_line(error), 200)}"
            )


@check(
    "unresolvable-reference",
    "high",
    rationale="Nobody fetches what lies outside of the schema: it could change after approval.",
    remedy="Put what is referred to under $defs, as #/$defs/…; let $schema name a published dialect.",
)
def unresolvable(reading: Reading) -> Iterator[Sighting]:
    """References to what is not in the schema."""
    for document in _schemas(reading):
        error = _compile_error(document)
        if error is not None and _is_reference(error):
            broken = list(_broken_references(document))
            yield from broken or [Sighting(document.field, quote(_first_line(error), 200))]


@check(
    "parameter-undescribed",
    "info",
    rationale="An agent fills a parameter by its description.",
    remedy="Give each parameter a description: what it means, its unit, an example.",
)
def undescribed(reading: Reading) -> Iterator[Sighting]:
    """Parameters with no description."""
    names = [name for name, schema in _properties(reading).items() if not _is_described(schema)]
    if names:
        shown = ", ".join(quote(name, 40) for name in names[:_SHOWN_NAMES])
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        yield Sighting("inputSchema/properties", f"no description of {shown}{more}")


@check(
    "invalid-annotations",
    "medium",
    rationale="Consumers decide by the hints whether a call may be repeated, or needs a person's consent.",
    remedy="Make the annotations an object whose …Hint fields are true or false.",
)
def invalid_annotations(reading: Reading) -> Iterator[Sighting]:
    """Annotations that are no object, or whose hints are no booleans."""
    document = reading.document("annotations")
    if document is None or document.problem:
        return
    if not isinstance(document.value, dict):
        yield Sighting("annotations", "the annotations are no JSON object")
        return
    for key, value in document.value.items():
        if key.endswith("Hint") and not isinstance(value, bool | None):
            yield Sighting(render_path(("annotations", key)), "the hint is neither true nor false")


def _schemas(reading: Reading) -> Iterator[Document]:
    return (document for document in reading.documents if document.field in _SCHEMAS)


@lru_cache(maxsize=_KEPT)
def _compile_error(document: Document) -> Exception | None:
    """Why the schema does not compile; None where it does (an empty one does), or that is not even tried."""
    if document.problem or document.value == {} or _compile_cost(document):
        return None
    try:
        jsonschema_rs.validator_for(document.value, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return error
    return None


def _is_reference(error: Exception) -> bool:
    return isinstance(error, jsonschema_rs.ReferencingError) or isinstance(
        getattr(error, "kind", None), ValidationErrorKind.Referencing
    )


def _where(document: Document, error: Exception) -> str:
    path: list[str | int] = getattr(error, "instance_path", [])
    return render_path((document.field, *path))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _broken_references(document: Document) -> Iterator[Sighting]:
    """The references that explain why the schema does not compile."""
    for text in document.texts:
        if text.is_key or text.path[-1] not in _REFERENCES:
            continue
        if _SCHEME.match(text.text) or text.text.startswith("//"):
            yield Sighting(text.where, f"“{quote(text.text)}” leads out of the schema, and nobody follows it")
        elif text.text.startswith("#/") and not _leads_somewhere(document.value, text.text):
            yield Sighting(text.where, f"“{quote(text.text)}” leads nowhere in the schema")


def _leads_somewhere(value: Any, pointer: str) -> bool:
    for token in pointer[2:].split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


@lru_cache(maxsize=_KEPT)
def _compile_cost(document: Document) -> str:
    """Why compiling the schema could cost too much; empty where it is cheap."""
    patterns = len({text.text for text in document.texts if _is_pattern(text)})
    if patterns > MAX_PATTERNS:
        return f"it holds {patterns} patterns, over {MAX_PATTERNS}"
    return reference_problem(document)


def _is_pattern(text: Text) -> bool:
    if text.is_key:
        return len(text.path) > 2 and text.path[-2] == "patternProperties"
    return text.path[-1] == "pattern"


def _properties(reading: Reading) -> dict[str, Any]:
    document = reading.document("inputSchema")
    properties = document.value.get("properties") if document and isinstance(document.value, dict) else None
    return properties if isinstance(properties, dict) else {}


def _is_described(schema: Any) -> bool:
    return isinstance(schema, dict) and bool(
        schema.get("description") or schema.get("title") or "$ref" in schema
    )


CHECKS: tuple[Check, ...] = (
    not_json,
    over_bounds,
    large,
    not_object,
    untyped,
    invalid,
    unresolvable,
    undescribed,
    invalid_annotations,
)
