"""Turns `key=value` words into the arguments of a tool. Pure."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

_MAX_REFERENCES: Final = 8


class Word(str):
    """A value as it was typed: what it means is for the tool's schema to say."""

    __slots__ = ()


def parse_arguments(document: str, pairs: Iterable[str]) -> dict[str, Any]:
    """The arguments of a JSON object, and on top of it those of `key=value` pairs, as `Word`.

    Raises:
        ValueError: the document is no JSON object, or a pair has no `=` or no key.
    """
    try:
        arguments = _json(document)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--args is not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ValueError("--args must be a JSON object")
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ValueError(f"{pair!r} is not key=value")
        arguments[key] = Word(value)
    return arguments


def coerce_arguments(arguments: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """The arguments with each `Word` as the value that the tool's input schema means by it."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    known = properties if isinstance(properties, Mapping) else {}
    return {
        key: coerce(value, _types(known.get(key), schema)) if isinstance(value, Word) else value
        for key, value in arguments.items()
    }


def coerce(word: str, types: frozenset[str]) -> Any:
    """The JSON value where `types` (none: any) allow it, else the text itself where they allow text."""
    text = str(word)
    if types == {"string"}:
        return text
    try:
        value = _json(text)
    except (ValueError, RecursionError):
        return text
    if "string" in types and _type_of(value) not in types and not (_is_whole(value) and "number" in types):
        return text
    return value


def _json(text: str) -> Any:
    """Strict JSON, without what Python's reader adds: NaN, and numbers too large for a double."""
    return json.loads(text, parse_constant=_no_number, parse_float=_finite)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _types(schema: Any, root: Any, depth: int = 0) -> frozenset[str]:
    """The JSON types that a schema allows; none where it does not say."""
    if not isinstance(schema, Mapping) or depth > _MAX_REFERENCES:
        return frozenset()
    if isinstance(reference := schema.get("$ref"), str):
        return _types(_resolve(reference, root), root, depth + 1)
    declared = schema.get("type")
    if isinstance(declared, str):
        return frozenset((declared,))
    if isinstance(declared, list):
        return frozenset(map(str, declared))
    if isinstance(values := schema.get("enum", [schema["const"]] if "const" in schema else None), list):
        return frozenset(map(_type_of, values))
    choices = schema.get("anyOf", schema.get("oneOf"))
    if not isinstance(choices, list):
        return frozenset()
    each = [_types(choice, root, depth + 1) for choice in choices]
    return frozenset().union(*each) if all(each) else frozenset()


def _resolve(reference: str, root: Any) -> Any:
    """What `#/…` points to in the schema; None for anything else."""
    if not reference.startswith("#/"):
        return None
    found = root
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case None:
            return "null"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
