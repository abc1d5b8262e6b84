"""What one schema takes that another did not, keyword by keyword, at every depth. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Document, Path

_BOUNDS: Final = frozenset(
    {"enum", "const", "pattern", "format", "not", "$ref", "maxLength", "minLength", "multipleOf"}
    | {"maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "uniqueItems", "maxItems", "minItems"}
    | {"maxProperties", "minProperties", "propertyNames", "additionalProperties", "items"}
    | {"anyOf", "oneOf", "allOf"}
)
_NESTED: Final = frozenset({"items", "additionalProperties", "propertyNames", "anyOf", "oneOf", "allOf"})
"""Bounds that are schemas, which are compared themselves where both sides have them."""

_BY_NAME: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_VALUES: Final = frozenset({"enum", "const", "default", "examples", "required"})
_TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")


def schemas(document: Document) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A schema and every schema in it, by its path."""
    # Bounded: a document that is too deep or too large was not read, and has no value.
    stack: list[tuple[Path, Any]] = [((document.field,), document.value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, list):
            stack += [((*path, index), item) for index, item in enumerate(value)]
        elif isinstance(value, dict):
            yield path, value
            for key, item in value.items():
                if key in _BY_NAME and isinstance(item, dict):
                    stack += [((*path, key, name), schema) for name, schema in item.items()]
                elif key not in _VALUES:
                    stack.append(((*path, key), item))


def properties(document: Document) -> Iterator[tuple[Path, Any]]:
    """Every property of a schema, at any depth, by its path."""
    for path, schema in schemas(document):
        named = schema.get("properties")
        if isinstance(named, dict):
            for name, each in named.items():
                yield (*path, "properties", name), each


def is_bounded(schema: Any) -> bool:
    """Whether a parameter takes only what a model can put no text of its own into."""
    if not isinstance(schema, dict):
        return False
    return (
        "enum" in schema
        or "const" in schema
        or schema.get("type") in ("boolean", "integer", "number", "null")
    )


def loosened(was: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What one schema takes that another did not, or now asks for: the keyword, and why."""
    for bound in sorted(_BOUNDS & was.keys()):
        if bound in _NESTED and was[bound] is True:
            continue  # as good as none
        if bound not in schema:
            yield bound, f"its bound `{bound}` is gone"
        elif bound == "enum":
            if more := _more(was["enum"], schema["enum"]):
                yield bound, f"it takes {quote(more)} as well"
        elif schema[bound] != was[bound] and not (
            bound in _NESTED and _are_compared(was[bound], schema[bound])
        ):
            yield bound, f"its bound `{bound}` is another one"
    if more := _more(_types(was), _types(schema)):
        yield "type", f"it takes {quote(more)} as well"
    default = schema.get("default")
    if default != was.get("default") and (default or ("default" in was and "default" in schema)):
        yield "default", "what it takes where nothing is given is another value"
    if more := _more(was.get("required", []), _named(schema.get("required"), was.get("properties"))):
        yield "required", f"it now insists on {quote(more)}"


def _named(names: Any, properties: Any) -> list[Any]:
    """Those of the names that are properties already: new ones are judged as new parameters."""
    known = properties if isinstance(properties, dict) else {}
    return [name for name in names if name in list(known)] if isinstance(names, list) else []


def _are_compared(was: Any, now: Any) -> bool:
    """Whether these are schemas that are compared by themselves, as far as they go."""
    if isinstance(was, list):
        return isinstance(now, list) and len(was) == len(now)
    return isinstance(was, dict) and isinstance(now, dict)


def _types(schema: Mapping[str, Any]) -> list[Any]:
    kinds = schema.get("type", list(_TYPES))
    return kinds if isinstance(kinds, list) else [kinds]


def _more(was: Any, now: Any) -> str:
    """What a list of values has that another one has not, as text."""
    if not isinstance(was, list) or not isinstance(now, list):
        return ""
    return ", ".join(str(value) for value in now if value not in was)
