"""The window that tells a repeated message from a new one."""

from hypothesis import example, given
from hypothesis import strategies as st

from mcp_federation.metrics.replay import WIDTH, ReplayWindow

sequences = st.integers(1, 3 * WIDTH)


@given(st.lists(sequences, max_size=50))
@example([1, WIDTH, WIDTH + 1, 2 * WIDTH, 2, 1])
@example([3 * WIDTH, 1])
def test_nothing_is_taken_twice_and_nothing_new_within_the_width_is_missed(these: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for sequence in these:
        is_new = sequence not in seen and sequence > max(seen, default=0) - WIDTH
        assert window.take(sequence) == is_new
        seen.add(sequence)


@given(st.lists(sequences, max_size=20), sequences)
def test_a_window_survives_its_message(these: list[int], another: int) -> None:
    window = ReplayWindow()
    for sequence in these:
        window.take(sequence)
    back = ReplayWindow.of(window.last, window.bitmap)
    assert (back.last, back.bitmap) == (window.last, window.bitmap)
    assert len(window.bitmap) <= WIDTH // 8
    assert back.take(another) == window.take(another)


def test_a_bitmap_that_is_too_long_is_cut() -> None:
    assert len(ReplayWindow.of(5, b"\xff" * 10 * WIDTH).bitmap) == WIDTH // 8
