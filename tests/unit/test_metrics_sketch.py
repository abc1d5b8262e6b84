"""Sketches from the wire: ours are read, altered ones never reach the library."""

from struct import pack_into

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_federation.errors import InvalidRequest
from mcp_federation.metrics.sketch import MAX_LATENCY_MS, new_sketch, read_sketch

sizes = st.one_of(st.integers(1, 5), st.integers(190, 210), st.integers(1, 6000))


def a_sketch(size: int, factor: float = 1.0) -> bytes:
    sketch = new_sketch()
    for number in range(size):
        sketch.update(number * 7919 % 10_007 * factor)
    return bytes(sketch.serialize())


@given(sizes)
def test_a_sketch_of_ours_is_read(size: int) -> None:
    data = a_sketch(size)
    assert read_sketch(data).serialize() == data


@given(sizes, sizes)
def test_a_merged_or_queried_sketch_of_ours_is_read(one: int, other: int) -> None:
    sketch = read_sketch(a_sketch(one))
    sketch.merge(read_sketch(a_sketch(other, 0.5)))
    sketch.get_quantiles([0.5])
    assert read_sketch(sketch.serialize()).n == one + other


def test_a_sketch_of_more_executions_than_anyone_counts_is_still_read() -> None:
    sketch = read_sketch(a_sketch(1000))
    while sketch.n < 2**53:
        sketch.merge(read_sketch(sketch.serialize()))
    assert read_sketch(sketch.serialize()).n == sketch.n


@given(sizes, st.data())
def test_an_altered_sketch_is_refused_or_harmless(size: int, data: st.DataObject) -> None:
    altered = bytearray(a_sketch(size))
    places = st.integers(0, min(len(altered), 80) - 1) | st.integers(0, len(altered) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        altered[place] = value
    end = data.draw(st.just(len(altered)) | st.integers(0, len(altered)))
    try:
        sketch = read_sketch(bytes(altered[:end]))
    except InvalidRequest:
        return
    ours = read_sketch(a_sketch(500))
    ours.merge(sketch)
    quantiles = ours.get_quantiles([0, 0.5, 1])
    assert quantiles == sorted(quantiles)
    assert 0 <= quantiles[0] <= quantiles[-1] <= MAX_LATENCY_MS
    read_sketch(ours.serialize())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_sketch_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_sketch(data)


@pytest.mark.parametrize(
    ("layout", "place", "value"),
    [
        ("<B", 0, 2),
        ("<B", 2, 7),
        ("<B", 3, 4),
        ("<H", 4, 400),
        ("<Q", 8, 2**63),
        ("<Q", 8, 1),
        ("<H", 16, 8),
        ("<B", 18, 0),
        ("<B", 18, 255),
        ("<I", 20, 2**32 - 1),
        ("<I", 20, 0),
        ("<d", -8, float("nan")),
        ("<d", -8, float("inf")),
        ("<d", -8, -1.0),
    ],
)
def test_each_part_of_a_sketch_is_checked(layout: str, place: int, value: float) -> None:
    data = bytearray(a_sketch(3000))
    pack_into(layout, data, place % len(data), value)
    with pytest.raises(InvalidRequest):
        read_sketch(bytes(data))


@pytest.mark.parametrize("latency", [-1.0, float("inf"), 2 * MAX_LATENCY_MS])
@pytest.mark.parametrize("size", [1, 2])
def test_a_sketch_of_what_is_no_latency_is_refused(latency: float, size: int) -> None:
    sketch = new_sketch()
    for _ in range(size):
        sketch.update(latency)
    with pytest.raises(InvalidRequest):
        read_sketch(sketch.serialize())


def test_an_empty_sketch_is_not_one_to_publish() -> None:
    with pytest.raises(InvalidRequest):
        read_sketch(new_sketch().serialize())
