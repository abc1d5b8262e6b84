"""What the model knows of a passage: which concepts are in it, and which come soon after which. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from mcp_federation.governance.detector.lexicon import Hit

NEAR: Final = 12
"""Tokens between two concepts that have to do with each other."""

RADIX: Final = 256
"""Above the number of concepts: a feature is a number, its digits to this base are concepts (plus one)."""


def features(hits: Sequence[Hit]) -> set[int]:
    """The concepts, the ordered pairs of them that are near, and the triples of which each is the next."""
    found: set[int] = set()
    add = found.add
    for after, (place, concept) in enumerate(hits, 1):
        add(concept + 1)
        limit = place + NEAR
        base = (concept + 1) * RADIX + 1
        next_pair = 0
        for other_place, other in hits[after:]:
            if other_place > limit:
                break
            if other_place > place:
                add(base + other)
                if next_pair > 0:
                    add(next_pair + other)
                    next_pair = -1
                elif not next_pair:
                    next_pair = (base + other) * RADIX + 1
    return found


def to_feature(concepts: Iterable[int]) -> int:
    """The feature that these concepts make, one after another."""
    feature = 0
    for concept in concepts:
        feature = feature * RADIX + concept + 1
    return feature


def concepts_of(feature: int) -> list[int]:
    """The concepts that make the feature, one after another."""
    found = []
    while feature:
        feature, digit = divmod(feature, RADIX)
        found.append(digit - 1)
    return found[::-1]
