"""How one pass predicts: whole weights for the differences it sees, whole scales for the sizes, widths by octave.

      mean  = 16 base + floor(weights . differences / 16)            in sixteenths, brought into 0 .. 16 range
      size  = floor(scales . sizes / 4)                              64 times the error to expect, 1 or more
      width = index(size) - 24 + shifts[octave],  shape = shapes[octave]

Index counts eighths of octaves. Weights are sent in 256ths, one set for all directions or five.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.codec import residues
from framefill.codec.coder import Decoder, Encoder
from framefill.codec.order import Floats, Sight
from framefill.codec.tables import Ints
from framefill.errors import CodecError

UNIT, DIRECTIONS, OCTAVES = 256, 5, 32
WIDEST = 8 * 36
SCALES = np.array([0, *((8 + i % 8) << (i // 8) for i in range(96))], np.int64)  # what a scale can be, over 8
EXACT: dict[np.dtype, int] = {np.dtype(np.float32): 1 << 24, np.dtype(np.float64): 1 << 53}
PLAIN, ONE, ALL = 0, 1, 2


@dataclass(frozen=True)
class Law:
    """Weights (1 or 5, F), scales (G,) as places in SCALES, shapes and shifts (32,); int64."""

    weights: Ints
    scales: Ints
    shapes: Ints
    shifts: Ints

    def means(self, sight: Sight, reach: int) -> Floats:
        """Means (N,) in sixteenths, whole."""
        dtype = sight.base.dtype
        drift = self.weights.astype(dtype) @ sight.differences
        own = drift[0] if len(drift) == 1 else np.take_along_axis(drift, sight.direction[None], 0)[0]
        own *= dtype.type(1 / 16)
        np.floor(own, out=own)
        own += 16 * sight.base
        return np.clip(own, 0, 16 * reach, out=own)

    def widths(self, sight: Sight) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shapes and widths (N,)."""
        size = (SCALES[self.scales].astype(sight.sizes.dtype) @ sight.sizes) * sight.sizes.dtype.type(1 / 32)
        index = indices(size)
        octave = index >> 3
        return self.shapes[octave], np.clip(index - 24 + self.shifts[octave], 0, WIDEST)

    def reaches(self) -> int:
        """The largest sum that `means` and `widths` can come to, for values 0 .. 1."""
        window = self.weights.shape[1] - 2 * ((len(self.scales) - 5) // 3)
        others = (len(self.scales) - 5) // 3
        far = np.array([1] * window + [4, 1] * others)
        wide = np.array([1, 2, 4, window, 64] + [4, 16, 64] * others)
        return max(int((np.abs(self.weights) @ far).max()), int(SCALES[self.scales] @ wide), 64)


def container(held: list[Law], reach: int) -> np.dtype:
    """The smallest float in which all sums are exact for values 0 .. reach. CodecError where there is none."""
    most = max((law.reaches() for law in held), default=64) * max(reach, 1)
    for dtype, bound in EXACT.items():
        if most < bound:
            return dtype
    raise CodecError(f"weights are too large for numbers that reach {reach}: their sums would not be exact")


def indices(size: Floats) -> Ints:
    """8 log2 of sizes, floored to eighths of octaves in a straight line: 8 o + the 3 bits behind the first."""
    wide = np.maximum(size, 1)
    if wide.dtype == np.float32:
        return ((wide.view(np.int32) >> 20) - (127 << 3)).astype(np.int64)
    return np.minimum((wide.view(np.int64) >> 49) - (1023 << 3), 8 * OCTAVES - 1)


def plain(features: int, sizes: int) -> Law:
    """The base, and a size from the spread around it."""
    scales = np.zeros(sizes, np.int64)
    scales[[0, 2]] = 25, 17
    return Law(np.zeros((1, features), np.int64), scales, np.full(OCTAVES, 2, np.int64), np.zeros(OCTAVES, np.int64))


def write(laws: list[Law], to: Encoder) -> None:
    """Codes laws: how many weights there are, the weights less those of the first direction, the rest by difference."""
    for law in laws:
        kind = ALL if len(law.weights) > 1 else ONE if law.weights.any() else PLAIN
        _send(to, np.array([kind]), 8)
        if kind:
            _send(to, np.diff(law.weights, axis=0, prepend=0).ravel(), 47)
        _send(to, law.scales - 12, 40)
        _send(to, np.diff(law.shapes, prepend=2), 2)
        _send(to, np.diff(law.shifts, prepend=0), 2)


def read(sizes: list[tuple[int, int]], source: Decoder) -> list[Law]:
    """Laws of so many differences and sizes each. CodecError for what no encoder writes."""
    found = []
    for features, count in sizes:
        kind = int(_take(source, 1, 8)[0])
        weights = np.zeros((1, features), np.int64)
        if kind in (ONE, ALL):
            rows = DIRECTIONS if kind == ALL else 1
            weights = np.cumsum(_take(source, rows * features, 47).reshape(rows, features), 0)
        scales = _take(source, count, 40) + 12
        shapes, shifts = np.cumsum(_take(source, OCTAVES, 2)) + 2, np.cumsum(_take(source, OCTAVES, 2))
        if not (
            PLAIN <= kind <= ALL
            and 0 <= scales.min() <= scales.max() < len(SCALES)
            and 0 <= shapes.min() <= shapes.max() < len(residues.SHAPES)
            and np.abs(shifts).max() < 512
            and np.abs(weights).max() < 1 << 16
        ):
            raise CodecError("the coded planes are damaged: their laws have no meaning")
        found.append(Law(weights, scales, shapes, shifts))
    return found


def _row(count: int, width: int) -> Ints:
    flat = np.zeros(count, np.int64)
    return residues.law(flat + 3, flat + width, flat)[0]


def _send(to: Encoder, values: Ints, width: int) -> None:
    to.write(values, _row(len(values), width), residues.tables())


def _take(source: Decoder, count: int, width: int) -> Ints:
    return source.read(_row(count, width), residues.tables())
