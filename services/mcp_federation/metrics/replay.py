"""Which messages of a stream were taken in, in bounded space. Pure."""

from typing import Self

WIDTH = 8192
"""How far behind the latest message one is still told from a repetition."""


class ReplayWindow:
    """A sliding bitmap of sequences, as in the anti-replay window of IPsec (RFC 4303, 3.4.3).

    What is further behind than `WIDTH` counts as taken in: a late message rather gets lost than counts twice.
    """

    def __init__(self, last: int = 0, bits: int = 0) -> None:
        self.last = last
        self._bits = bits

    @classmethod
    def of(cls, last: int, bitmap: bytes) -> Self:
        """The window of a message; what lies beyond its width is left out."""
        return cls(last, int.from_bytes(bitmap[: WIDTH // 8], "little"))

    @property
    def bitmap(self) -> bytes:
        """Bit i, little-endian, stands for the sequence `last` - i."""
        return self._bits.to_bytes((self._bits.bit_length() + 7) // 8, "little")

    def take(self, sequence: int) -> bool:
        """Whether the message is new; from now on it is not."""
        if sequence > self.last:
            ahead = sequence - self.last
            kept = self._bits << ahead if ahead < WIDTH else 0
            self._bits = (kept | 1) & ((1 << WIDTH) - 1)
            self.last = sequence
            return True
        behind = self.last - sequence
        if behind >= WIDTH or self._bits >> behind & 1:
            return False
        self._bits |= 1 << behind
        return True
