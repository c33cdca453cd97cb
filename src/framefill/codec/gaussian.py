"""The Gaussian tables of the entropy model: 64 widths and 16 fractions of a mean, from whole numbers only.

Width i is S / 64 symbols with S = (8 + i mod 8) 2^(i div 8): 0.125 to 30, steps of 6 to 12 %. A mean m / 16 is a base
m div 16, which shifts the symbols, and a fraction f = m mod 16, which picks the row 16 i + f. The normal distribution
itself enters as whole numbers G[k] = round(2^32 Phi(k / 128)), k = 0..1024, computed here by a series in big integers;
between them it is a straight line. docs/bitstream.md has the rule in full.
"""

from functools import lru_cache
from math import isqrt

import numpy as np

from framefill.codec.tables import TOTAL, Ints, Tables

WIDTHS, FRACTIONS = 64, 16
GRID, REACH, ONE = 128, 8, 1 << 32
GUARD = 192  # bits behind the point in the series
PI = 3141592653589793238462643383279502884197169399375105820974944592307816406286  # times 10^75


def width(index: int) -> int:
    """S of width `index` in 0..63: the standard deviation in symbols, times 64."""
    return (8 + index % 8) << (index // 8)


def radius(index: int) -> int:
    """Symbols base - radius .. base + radius + 1 have entries of their own: 5 standard deviations."""
    return 1 + (5 * width(index) + 63) // 64


@lru_cache(1)
def distribution() -> Ints:
    """G (1025,): 2^32 times the normal distribution function at k / 128, rounded to the nearest whole number."""
    one = 1 << GUARD
    density = one * one * 10**38 // isqrt(2 * PI * 10 * one * one)  # 1 / sqrt(2 pi), behind GUARD bits
    found = []
    for k in range(GRID * REACH + 1):
        x = (k << GUARD) // GRID
        square, term, total, n = x * x >> GUARD, x, 0, 0
        while term:
            total += (-1) ** n * term // (2 * n + 1)
            n += 1
            term = (term * square >> GUARD) // (2 * n)
        half = total * density >> GUARD
        found.append((one // 2 + half + (one >> 33)) >> (GUARD - 32))
    return np.array(found, np.int64)


def below(numerators: Ints, index: int) -> Ints:
    """2^32 Phi(x) for x = numerators / 16 symbols at width `index`, linear between grid points, by floor division."""
    grid = distribution()
    place = np.minimum(np.abs(numerators) * (4 * GRID << 16) // width(index), (GRID * REACH << 16) - 1)
    k, part = place >> 16, place & 0xFFFF
    upper = grid[k] + ((grid[k + 1] - grid[k]) * part >> 16)
    return np.where(numerators < 0, ONE - upper, upper)


def row(index: int, fraction: int) -> Ints:
    """Frequencies of symbols -radius .. radius + 1 around a mean of fraction / 16, escape last."""
    reach = radius(index)
    edges = 16 * np.arange(-reach, reach + 3, dtype=np.int64) - 8 - fraction
    share = below(edges, index)
    entries = len(edges)  # one more than symbols: the escape
    starts = np.arange(entries) + ((share - share[0]) * (TOTAL - entries) >> 32)
    return np.diff(np.append(starts, TOTAL))


@lru_cache(1)
def tables() -> Tables:
    """All 1024 rows, row 16 i + f; their lowest symbol is relative to the base of the mean."""
    rows = [row(i, f) for i in range(WIDTHS) for f in range(FRACTIONS)]
    return Tables(rows, [-radius(i) for i in range(WIDTHS) for _ in range(FRACTIONS)])
