"""Symbols to bytes, last in, first out (asymmetric numeral systems; Duda 2013): what bits-back coding needs.

A queue (`codec.coder`) gives symbols back in the order they came; a stack can also be asked for symbols it was never
given. Then its bits turn into random symbols of any distribution, and giving them back restores the bits. A symbol
with frequencies before it c and its own f, in units of 2^-24 as there:

      push:  x -> (x div f) 2^24 + x mod f + c        pop: the inverse, x mod 2^24 names the symbol

Words of 32 bits leave and enter, so that x stays below 2^64. An empty stack is x = 0, and behind its end are zeros.
"""

import numpy as np

from framefill.codec.coder import PRECISION, WORD
from framefill.codec.tables import Ints
from framefill.errors import CodecError

WHOLE = 1 << PRECISION


class Stack:
    """Whole numbers only, so the same on every machine; every push is undone by a pop with the same numbers."""

    def __init__(self, message: bytes = b""):
        spare = len(message) % 4
        words = np.frombuffer(message[spare:], ">u4").tolist()
        self._words: list[int] = words[::-1] + [int.from_bytes(message[:spare], "big")] * (spare > 0)
        self._state = 0
        for _ in range(2):
            self._refill()

    def push(self, start: int, own: int) -> None:
        """A symbol whose frequencies are start .. start + own of 2^24; own is 1 or more."""
        if self._state >= own << 64 - PRECISION:
            self._words.append(self._state % WORD)
            self._state >>= 32
        self._state = (self._state // own << PRECISION) + self._state % own + start

    def pop(self, starts: Ints) -> int:
        """The symbol on top, of n whose frequencies begin at `starts` (n + 1,), rising from 0 to 2^24."""
        place = self._state % WHOLE
        symbol = int(np.searchsorted(starts, place, "right")) - 1
        start, end = int(starts[symbol]), int(starts[symbol + 1])
        self._state = (end - start) * (self._state >> PRECISION) + place - start
        self._refill()
        return symbol

    def _refill(self) -> None:
        if self._state < WORD and self._words:
            self._state = self._state << 32 | self._words.pop()

    def message(self) -> bytes:
        """Everything that is on the stack, the top first, less the zero bytes that it begins with."""
        top = [self._state >> 32, self._state % WORD] if self._state >= WORD else [self._state] * (self._state > 0)
        whole = b"".join(word.to_bytes(4, "big") for word in [*top, *self._words[::-1]])
        return whole[:3].lstrip(b"\0") + whole[3:]

    def emptied(self) -> None:
        """CodecError if anything is left, which nothing we wrote leaves."""
        if self._state or self._words:
            raise CodecError("the coded symbols are damaged: some are left over")


def even(count: int) -> Ints:
    """Starts (count + 1,) of as many symbols, equally likely to within one unit; count up to 2^24."""
    return (np.arange(count + 1, dtype=np.int64) << PRECISION) // count
