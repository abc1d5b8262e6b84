"""Arguments to try a tool with, made from its input schema. Pure."""

from collections.abc import Mapping
from typing import Any, Final

MAX_DEPTH: Final = 6
_TEXT: Final[Mapping[str, str]] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}


def sample_arguments(schema: Any) -> dict[str, Any]:
    """What the schema requires, by its own examples and bounds where it has them; harmless otherwise."""
    value = _sample(schema, MAX_DEPTH)
    return value if isinstance(value, dict) else {}


def _sample(schema: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth == 0:
        return "example"
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(values := schema.get(key), list) and values:
            return values[0]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(choices := schema.get(key), list) and choices:
            return _sample(choices[0], depth - 1)
    kind = schema.get("type")
    return _of_kind(kind[0] if isinstance(kind, list) and kind else kind, schema, depth)


def _of_kind(kind: Any, schema: Mapping[str, Any], depth: int) -> Any:
    match kind:
        case "string":
            text = _TEXT.get(str(schema.get("format")), "example")
            return text.ljust(_number(schema.get("minLength"), 0), "x")[
                : _number(schema.get("maxLength"), 1000)
            ]
        case "integer" | "number":
            low = _number(schema.get("minimum"), _number(schema.get("exclusiveMinimum"), 0) + 1)
            return min(max(low, 1), _number(schema.get("maximum"), max(low, 1)))
        case "boolean":
            return False
        case "null":
            return None
        case "array":
            size = _number(schema.get("minItems"), 0)
            return [_sample(schema.get("items", {}), depth - 1) for _ in range(min(size, 5))]
        case _:
            return _object(schema, depth)


def _object(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(required, list):
        return {}
    known = properties if isinstance(properties, Mapping) else {}
    return {name: _sample(known.get(name, {}), depth - 1) for name in map(str, required)}


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
