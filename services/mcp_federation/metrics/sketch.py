"""Latency sketches from the wire: read only after every byte of their structure has been checked.

The library that makes KLL sketches trusts the bytes it reads: a wrong count in them is read past the end
of the buffer, or for ever. So what comes from outside is first compared with the format (Apache
DataSketches, KLL of doubles, little-endian) here, and only a sketch that the library could have written
reaches it.
"""

import struct
from itertools import pairwise

from datasketches import kll_doubles_sketch

from mcp_federation.errors import InvalidRequest

K = 200
"""The accuracy of our sketches: a quantile is off by about 1.3 % of the ranks, at about 6 KB a sketch."""

MAX_LATENCY_MS = 86_400_000.0
"""One day; what claims to be slower counts as this."""

_M = 8
_FAMILY = 15
_MAX_LEVELS = 54
_LEVEL_ZERO_SORTED = 2
_SINGLE = struct.Struct("<4BHBx d")
_FULL = struct.Struct("<4BHBx QHBx")
_SINGLE_PREAMBLE = (2, 2, _FAMILY)
_FULL_PREAMBLE = (5, 1, _FAMILY)


def new_sketch() -> kll_doubles_sketch:
    """An empty sketch."""
    return kll_doubles_sketch(K)


def read_sketch(data: bytes) -> kll_doubles_sketch:
    """The sketch of at least one latency (ms) that `serialize` gave.

    Raises:
        InvalidRequest: the bytes are no such sketch.
    """
    try:
        valid = _is_single(data) if len(data) == _SINGLE.size else _is_full(data)
    except struct.error:
        valid = False
    if not valid:
        raise InvalidRequest("the latency sketch is none")
    return kll_doubles_sketch.deserialize(data)


def _is_single(data: bytes) -> bool:
    *preamble, flags, k, m, value = _SINGLE.unpack(data)
    return (
        tuple(preamble) == _SINGLE_PREAMBLE
        and flags in (4, 4 | _LEVEL_ZERO_SORTED)
        and (k, m) == (K, _M)
        and _are_latencies([value])
    )


def _is_full(data: bytes) -> bool:
    *preamble, flags, k, m, n, min_k, levels = _FULL.unpack_from(data)
    if (
        tuple(preamble) != _FULL_PREAMBLE
        or flags not in (0, _LEVEL_ZERO_SORTED)
        or (k, min_k, m) != (K, K, _M)
        or not 0 < levels <= _MAX_LEVELS
        or n < 2
    ):
        return False
    starts = [*struct.unpack_from(f"<{levels}I", data, _FULL.size), _capacity(levels)]
    retained = starts[-1] - starts[0]
    values_at = _FULL.size + 4 * levels
    if any(a > b for a, b in pairwise(starts)) or len(data) != values_at + 8 * (2 + retained):
        return False
    low, high, *values = struct.unpack_from(f"<{2 + retained}d", data, values_at)
    return _holds(values, [start - starts[0] for start in starts], n, bool(flags)) and _are_latencies(
        [low, high], inside=values
    )


def _capacity(levels: int) -> int:
    """How many values a sketch of that many levels has room for: K * (2/3)^depth each, at least `_M`."""
    return sum(max(_M, ((K << depth + 1) // 3**depth + 1) >> 1) for depth in range(levels))


def _holds(values: list[float], starts: list[int], n: int, all_sorted: bool) -> bool:
    """Whether the levels stand for `n` values, and are sorted where they have to be."""
    weight = 0
    for level, (start, end) in enumerate(pairwise(starts)):
        weight += (end - start) << level
        if (level or all_sorted) and any(a > b for a, b in pairwise(values[start:end])):
            return False
    return weight == n


def _are_latencies(bounds: list[float], inside: list[float] | None = None) -> bool:
    low, high = bounds[0], bounds[-1]
    return 0 <= low <= high <= MAX_LATENCY_MS and all(low <= value <= high for value in inside or [])
