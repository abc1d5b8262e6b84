"""What a schema's references amount to once they are followed. Pure.

Who checks a value against a schema, or compiles it, follows each reference anew that stays at the same
value (`allOf` and the like, unlike `properties`). A kilobyte of such references can unfold to more than a
machine's memory holds, or never end: they are counted before anything compiles the schema, here or at a
consumer.
"""

from collections.abc import Iterator
from typing import Final

from mcp_federation.governance.checks.reading import Document

MAX_REFERENCES: Final = 256
MAX_UNFOLDED: Final = 1_000
MAX_INTRICATE_REFERENCES: Final = 6
"""References in a schema with keywords that make each of them depend on the way that led there."""

_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_INTRICATE = frozenset(
    {
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveAnchor",
        "$recursiveRef",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_SAME_VALUE = frozenset({"not", "if", "then", "else"})
_SAME_VALUE_EACH = frozenset({"allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies"})

Place = tuple[str, ...]


def reference_problem(document: Document) -> str:
    """Why the references cannot be followed at a bounded cost; empty where they can."""
    references = [text for text in document.texts if not text.is_key and text.path[-1] in _REFERENCES]
    if len(references) > MAX_REFERENCES:
        return f"it holds {len(references)} references, over {MAX_REFERENCES}"
    if len(references) > MAX_INTRICATE_REFERENCES and (keyword := _intricate_keyword(document)):
        return f"it holds {len(references)} references beside {keyword}, over {MAX_INTRICATE_REFERENCES}"
    edges = [
        (tuple(map(str, text.path[1:-1])), target)
        for text in references
        if (target := _target(text.text)) is not None
    ]
    return _unfolding_problem(edges)


def _intricate_keyword(document: Document) -> str:
    for text in document.texts:
        if text.is_key:
            *above, keyword = map(str, text.path)
            is_inner_id = keyword in ("$id", "id") and len(above) > 1 and above[-1] != "properties"
            if keyword in _INTRICATE or is_inner_id:
                return keyword
    return ""


def _target(reference: str) -> Place | None:
    """The place that a JSON pointer within the document leads to; None where it is no such pointer."""
    if reference == "#":
        return ()
    if not reference.startswith("#/"):
        return None
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in reference[2:].split("/"))


def _unfolding_problem(edges: list[tuple[Place, Place]]) -> str:
    onward = {
        place: [target for at, target in edges if _is_at_same_value(place, at)]
        for place in {(), *(target for _, target in edges)}
    }
    # In the order in which all that a place leads to comes before the place itself.
    unfolded: dict[Place, int] = {}
    for start in onward:
        on_the_way: dict[Place, Iterator[Place]] = {} if start in unfolded else {start: iter(onward[start])}
        while on_the_way:
            place, rest = next(reversed(on_the_way.items()))
            target = next(rest, None)
            if target is None:
                del on_the_way[place]
                unfolded[place] = sum(1 + unfolded[each] for each in onward[place])
                if unfolded[place] > MAX_UNFOLDED:
                    return f"its references, followed one by one, lead to more than {MAX_UNFOLDED:,} schemas"
            elif target in on_the_way:
                return "it refers to itself without going into the value, so that a check would never end"
            elif target not in unfolded:
                on_the_way[target] = iter(onward[target])
    return ""


def _is_at_same_value(place: Place, at: Place) -> bool:
    """Whether the schema at `at`, inside of the one at `place`, is of the same value as that one."""
    if at[: len(place)] != place:
        return False
    tokens = iter(at[len(place) :])
    for token in tokens:
        if token in _SAME_VALUE_EACH:
            next(tokens, None)
        elif token not in _SAME_VALUE:
            return False
    return True
