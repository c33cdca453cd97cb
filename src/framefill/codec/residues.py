"""Rows for whole numbers around a prediction: mixtures of normal distributions, in four shapes of tail.

Width i is that of `codec.gaussian`, S = (8 + i mod 8) 2^(i div 8) in 64ths, for i = 0..47: the core is 0.125 to 7.5
wide. What is wider sends its k = i div 8 - 5 low bits as they are and the rest as width i - 8 k. The mean is a multiple
of 1, 2, 4 or 8 sixteenths, so that a step is at most an eighth of the core. docs/bitstream.md has the rule in full.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.codec import gaussian
from framefill.codec.tables import TOTAL, Ints, Tables

WIDTHS, OCTAVE, FRACTIONS = 48, 8, 16
# Shares in sixteenths, and how many widths each part is above the core: from the normal law to heavy tails.
SHAPES = (((16, 0),), ((12, 0), (4, 8)), ((9, 0), (5, 9), (2, 17)), ((12, 0), (2, 12), (2, 24)))
REACH = (1, 2, 2, 3)


def step(width: int) -> int:
    """Sixteenths between the means that a width has rows for."""
    return 1 << max(width // OCTAVE - 2, 0)


def row(shape: int, width: int, fraction: int) -> Ints:
    """Frequencies of symbols -r .. r + 1, r = REACH[shape] radius(width), around fraction / 16; the escape is last."""
    reach = REACH[shape] * gaussian.radius(width)
    edges = 16 * np.arange(-reach, reach + 3, dtype=np.int64) - 8 - fraction
    share = np.sum([part * gaussian.below(edges, width + wider) for part, wider in SHAPES[shape]], 0)
    starts = np.arange(len(edges)) + ((share - share[0]) * (TOTAL - len(edges)) >> 36)
    return np.diff(np.append(starts, TOTAL))


@lru_cache(1)
def tables() -> Tables:
    """All rows: shapes, in each the widths, in each the fractions that are multiples of the step."""
    kept = [(s, w, f) for s in range(len(SHAPES)) for w in range(WIDTHS) for f in range(0, FRACTIONS, step(w))]
    return Tables([row(*which) for which in kept], [-REACH[s] * gaussian.radius(w) for s, w, _ in kept])


@lru_cache(1)
def _places() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Number of the first row of (shape, width), and the logarithm of the step of a width."""
    logs = np.array([step(w).bit_length() - 1 for w in range(WIDTHS)], np.int32)
    counts = np.tile(FRACTIONS >> logs, len(SHAPES))
    return (np.cumsum(counts) - counts).astype(np.int32).reshape(len(SHAPES), WIDTHS), logs


def law(shape: NDArray[Any], width: NDArray[Any], mean: NDArray[Any]) -> tuple[Ints, Ints, Ints]:
    """Rows, bases and low bits (N,) for shapes, widths from 0 and means in sixteenths (int64)."""
    bits = np.maximum(width // OCTAVE - (WIDTHS // OCTAVE - 1), 0)
    kept = width - OCTAVE * bits
    first, logs = _places()
    log = logs[kept]
    rounded = ((mean + (1 << log >> 1)) >> log) << log
    plain = np.where(bits > 0, rounded & -FRACTIONS, rounded)
    return first[shape, kept] + ((plain & (FRACTIONS - 1)) >> log), plain >> 4, bits


def pack(low: Ints, bits: Ints) -> NDArray[np.uint8]:
    """The lowest `bits` (N,) bits of numbers (N,), low ones first, one bit per entry."""
    places = np.arange(bits.max(initial=0))
    return ((low[:, None] >> places) & 1).astype(np.uint8)[places < bits[:, None]]


def unpack(found: NDArray[np.uint8], bits: Ints) -> Ints:
    """The inverse of `pack`."""
    places = np.arange(bits.max(initial=0))
    inside = places < bits[:, None]
    held = np.zeros(inside.shape, np.int64)
    held[inside] = found
    return (held << places).sum(1)
