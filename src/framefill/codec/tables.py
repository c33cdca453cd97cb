"""Probabilities as whole numbers: one row of frequencies per distribution, each at least 1, together 2^16.

      P(symbol) = frequency / 65536,        cost = -log2 P bits

The last entry of a row is the escape: a symbol outside lowest .. lowest + n - 2 costs the escape and its own digits.
No float decides what is coded; logarithms serve estimates only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

BITS = 16
TOTAL = 1 << BITS
LARGEST = 2**31 - 1  # magnitude of a symbol
Ints = NDArray[np.int64]


class Tables:
    """Rows of frequencies; row r gives `frequencies[r]` to symbols lows[r], lows[r] + 1, ... and last to the escape.

    BadInput for a row that is shorter than 2, has an entry below 1 or does not sum to 65536.
    """

    def __init__(self, frequencies: Sequence[Ints], lows: Sequence[int]):
        if not frequencies or len(frequencies) != len(lows):
            raise BadInput(f"tables need one lowest symbol per row, got {len(lows)} for {len(frequencies)} rows")
        self.sizes = np.array([len(row) for row in frequencies], np.int64)
        self.lows = np.array(lows, np.int64)
        self.flat = np.concatenate([np.asarray(row, np.int64) for row in frequencies])
        self.starts = np.cumsum(self.sizes) - self.sizes
        if self.sizes.min() < 2 or self.flat.min() < 1 or np.any(np.add.reduceat(self.flat, self.starts) != TOTAL):
            raise BadInput(f"a row of frequencies has 2 or more entries, each 1 or more, that sum to {TOTAL}")
        self.costs = BITS - np.log2(self.flat)
        self.models: dict[int, Any] = {}  # what a coder has prepared, by row

    def __len__(self) -> int:
        return len(self.sizes)

    def row(self, index: int) -> Ints:
        """The frequencies of one row, escape last."""
        return self.flat[self.starts[index] : self.starts[index] + self.sizes[index]]

    def entries(self, symbols: Ints, rows: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Which entry of its row each symbol is, and which ones escape. BadInput for rows that are not there."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise BadInput(f"rows {rows.min()}..{rows.max()} of a set of {len(self)} tables")
        entries, escape = symbols - self.lows[rows], self.sizes[rows] - 1
        escaped = (entries < 0) | (entries >= escape)
        return np.where(escaped, escape, entries), escaped

    def bits(self, symbols: Ints, rows: Ints) -> NDArray[np.float64]:
        """What each symbol costs, in bits, digits of escapes included."""
        entries, escaped = self.entries(symbols, rows)
        return self.costs[self.starts[rows] + entries] + escaped * 8.0 * digits(symbols)


def zigzag(symbols: Ints) -> Ints:
    """0, -1, 1, -2, 2, ... as 0, 1, 2, 3, 4, ..."""
    return np.where(symbols < 0, -2 * symbols - 1, 2 * symbols)


def unzigzag(codes: Ints) -> Ints:
    """The inverse of `zigzag`."""
    return np.where(codes & 1, -((codes + 1) >> 1), codes >> 1)


def digits(symbols: Ints) -> Ints:
    """How many bytes an escaped symbol takes: 7 bits of its zigzag code each."""
    codes = zigzag(symbols)
    return np.stack([codes >> shift > 0 for shift in (7, 14, 21, 28)]).sum(0) + 1


def normalise(counts: Ints, total: int = TOTAL) -> Ints:
    """Counts (n,), zero or more, as n frequencies: 1 + floor(count (2^16 - n) / sum), the rest to the first largest.

    With another `total`, that instead of 2^16. Whole numbers throughout, so the same on every machine. BadInput for
    counts that are negative or all zero.
    """
    counts = np.asarray(counts, np.int64)
    if not 2 <= len(counts) <= total // 2 or counts.min() < 0 or not 0 < counts.sum() < 2**46:
        raise BadInput(
            f"{len(counts)} counts: give 2 to {total // 2}, none negative, not all zero, below 2^46 together"
        )
    frequencies = 1 + counts * (total - len(counts)) // counts.sum()
    frequencies[counts.argmax()] += total - frequencies.sum()
    return frequencies
