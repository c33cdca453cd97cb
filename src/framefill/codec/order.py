"""The order in which stacks of planes are coded: slices in batches, and in each three passes a level, coarse to fine.

      . B . B      level of stride s: the corners (.), multiples of 2 s, are known;
      C A C A      A has known corners, B corners and A, C corners, A and B around it
      . B . B
      C A C A

A batch may lean on slices that are known as a whole: earlier channels, or the times before and after it. What a pass
sees is a list of differences, so that nothing depends on the level of the numbers; all of them whole, held in floats
that are exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.codec.tables import Ints

Floats = NDArray[Any]
LEVELS = 5
MARGIN = 3
INNER = 4


@dataclass(frozen=True)
class Batch:
    """Slices (B,), the slices (K, B) that each may look at, and perhaps their mean as well; and which laws it has."""

    slices: Ints
    seen: Ints
    kind: int
    mean: bool = False

    @property
    def sees(self) -> int:
        """How many slices each looks at."""
        return len(self.seen) + self.mean


def channels(count: int) -> list[Batch]:
    """One after the other, each looking at the two before; of three and more the second is first: green, red, blue."""
    turns = [1, 0, *range(2, count)] if count > 2 else list(range(count))
    return [
        Batch(np.array([c]), np.array(turns[max(i - 2, 0) : i][::-1], np.int64)[:, None], min(i, 2))
        for i, c in enumerate(turns)
    ]


def times(count: int) -> list[Batch]:
    """Time 0, then by halves: those between two known times look at both, those behind the last at the two before."""
    found = [Batch(np.zeros(1, np.int64), np.zeros((0, 1), np.int64), 0)]
    for log in reversed(range((count - 1).bit_length())):
        stride = 1 << log
        own = np.arange(stride, count, 2 * stride)
        after = np.where(own + stride < count, own + stride, np.maximum(own - 3 * stride, 0))
        found.append(Batch(own, np.stack([own - stride, after]), 1 + min(log, 2)))
    return found


def series(count: int) -> list[Batch]:
    """As `times`, but each looks at two known times on either side where there are, and at the mean of all known.

    What stays (the form of the land, the climate) is in the mean, with less noise than in any two times.
    """
    first, *others = times(count)
    found = [first]
    for batch in others:
        own, (before, after) = batch.slices, batch.seen
        stride = own - before
        earlier = np.where(own >= 3 * stride, own - 3 * stride, before)
        later = np.where(own + 3 * stride < count, own + 3 * stride, after)
        found.append(Batch(own, np.stack([before, after, earlier, later]), batch.kind, mean=True))
    return found


@dataclass(frozen=True)
class Pass:
    """Positions y0 + i 2 s, x0 + j 2 s, with known neighbours at `window` (in units of s; the inner four first)."""

    stride: int
    corner: tuple[int, int]
    window: tuple[tuple[int, int], ...]
    kind: int


CROSS = ((0, -1), (0, 1), (-1, 0), (1, 0))
WINDOWS = (
    ((1, 1), ((-1, -1), (1, 1), (-1, 1), (1, -1), (-1, -3), (-1, 3), (1, -3), (1, 3), (-3, -1), (-3, 1), (3, -1),
              (3, 1))),
    ((0, 1), (*CROSS, (0, -3), (0, 3), (-3, 0), (3, 0), (-2, -1), (-2, 1), (2, -1), (2, 1), (-1, -2), (-1, 2),
              (1, -2), (1, 2))),
    ((1, 0), (*CROSS, (-1, -1), (1, 1), (-1, 1), (1, -1), (0, -3), (0, 3), (-3, 0), (3, 0), (-2, -1), (-2, 1),
              (2, -1), (2, 1), (-1, -2), (-1, 2), (1, -2), (1, 2))),
)  # fmt: skip


@lru_cache(64)
def passes(height: int, width: int) -> tuple[Pass, ...]:
    """From the coarsest level; those without positions are left out. Before them come the seeds, see `seeds`."""
    found = []
    for level in reversed(range(levels(height, width))):
        stride = 1 << level
        for kind, ((y, x), window) in enumerate(WINDOWS):
            if y * stride < height and x * stride < width:
                found.append(Pass(stride, (y * stride, x * stride), window, 3 * min(level, 2) + kind))
    return tuple(found)


def levels(height: int, width: int) -> int:
    """How many levels a plane has."""
    return min(LEVELS, (max(height, width) - 1).bit_length())


def seeds(planes: NDArray[Any]) -> NDArray[Any]:
    """The view (B, h, w) of what is sent before all passes."""
    stride = 1 << levels(*planes.shape[1:])
    return planes[:, ::stride, ::stride]


def sites(planes: NDArray[Any], own: Pass) -> NDArray[Any]:
    """The view (B, h, w) of a pass."""
    return planes[:, own.corner[0] :: 2 * own.stride, own.corner[1] :: 2 * own.stride]


@lru_cache(256)
def _mirrored(count: int) -> Ints:
    """Places -3 .. count + 2 brought inside by mirrors at both ends, which keep odd places odd."""
    place = np.abs(np.arange(-MARGIN, count + MARGIN))
    return np.clip(np.where(place >= count, 2 * (count - 1) - place, place), 0, count - 1)


def around(planes: Floats, own: Pass) -> Iterator[Floats]:
    """For every place of the window the values there, (B, h, w) each, and last those of the positions themselves."""
    grid = planes[:, :: own.stride, :: own.stride]
    grid = grid.take(_mirrored(grid.shape[1]), 1).take(_mirrored(grid.shape[2]), 2)
    _, height, width = sites(planes, own).shape
    top, left = (MARGIN + c // own.stride for c in own.corner)
    for y, x in (*own.window, (0, 0)):
        yield grid[:, top + y : top + y + 2 * height - 1 : 2, left + x : left + x + 2 * width - 1 : 2]


@dataclass(frozen=True)
class Sight:
    """What a pass sees: `base` (N,), the floor of the mean of the inner four; differences (F, N); sizes (G, N) >= 0.

    `direction` (N,) 0..4 says which of the two lines through the inner four is smoother.
    """

    base: Floats
    differences: Floats
    sizes: Floats
    direction: NDArray[np.intp]


def features(own: Pass, others: int) -> int:
    """How many differences a pass sees with so many known slices."""
    return len(own.window) + 2 * others


def sizes(others: int) -> int:
    """How many sizes."""
    return 5 + 3 * others


def look(own: Pass, values: Floats, errors: Floats, seen: list[tuple[Floats, Floats]]) -> Sight:
    """What pass `own` sees of values and sizes of errors (B, H, W), and of those of the slices that are known.

    Differences: the window less the base; then for each known slice 4 times its value less its inner four, and its
    value less the base. Sizes: 1; the differences across; those of the inner four; of the others; errors at the
    inner four, in sixteenths; then for each slice the first of its differences, its error, those of its inner
    four.
    """
    here = [*around(values, own)][:-1]
    shape, dtype = here[0].shape, values.dtype
    count = int(np.prod(shape))
    differences = np.empty((features(own, len(seen)), count), dtype)
    size = np.empty((sizes(len(seen)), count), dtype)
    base = np.floor((here[0] + here[1] + here[2] + here[3]) * dtype.type(0.25))
    for i, neighbour in enumerate(here):
        np.subtract(neighbour, base, out=differences[i].reshape(shape))
    window = len(here)
    for k, (known, _) in enumerate(seen):
        a, b, c, d, *_, centre = around(known, own)
        differences[window + 2 * k].reshape(shape)[...] = 4 * centre - (a + b + c + d)
        np.subtract(centre, base, out=differences[window + 2 * k + 1].reshape(shape))
    across = np.abs(differences[0] - differences[1]), np.abs(differences[2] - differences[3])
    size[0] = 1
    size[1] = across[0] + across[1]
    size[2] = np.abs(differences[:INNER]).sum(0)
    size[3] = np.abs(differences[INNER:window]).sum(0)
    a, b, c, d, *_ = around(errors, own)
    size[4].reshape(shape)[...] = a + b + c + d
    for k, (_, error) in enumerate(seen):
        a, b, c, d, *_, centre = around(error, own)
        size[5 + 3 * k] = np.abs(differences[window + 2 * k])
        size[6 + 3 * k].reshape(shape)[...] = centre
        size[7 + 3 * k].reshape(shape)[...] = a + b + c + d
    return Sight(base.ravel(), differences, size, _direction(*across))


def _direction(first: Floats, second: Floats) -> NDArray[np.intp]:
    turned = (first > 2 * second).astype(np.int8) + (first > 5 * second) - (second > 2 * first) - (second > 5 * first)
    return turned.astype(np.intp) + 2
