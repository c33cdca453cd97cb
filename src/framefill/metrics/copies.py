"""Whether a generator remembers: are its pictures nearer to what it learnt than to what it never saw?

A generator that has learnt the distribution and nothing by heart draws pictures whose nearest neighbours among M learnt
and N held-out ones are learnt ones as often as chance has it, M / (M + N); for one that remembers they always are. What
is said is the share as if there were as many of both:

      copies = s N / (s N + (1 - s) M),     s = share of pictures whose nearest neighbour is a learnt one

a half for the one and 1 for the other. All that was learnt has to be looked through: of N drawn at random from M, most
of what is known by heart is not among them. Distances are of pixels: what is moved or mirrored is far.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput

Pictures = NDArray[np.uint8]
"""uint8 (N, H, W, C)."""
CHUNK = 4096  # of the others held as floats at a time


@dataclass(frozen=True)
class Nearest:
    """Of every picture (N,) the index of the nearest other one, and the mean squared difference of their levels."""

    index: NDArray[np.int64]
    error: NDArray[np.float64]


def nearest(pictures: Pictures, others: Pictures) -> Nearest:
    """The nearest of `others` (M, H, W, C) to each of `pictures` (N, H, W, C); BadInput for other sizes, or none."""
    if not len(pictures) or not len(others) or pictures.shape[1:] != others.shape[1:]:
        raise BadInput(f"pictures {pictures.shape} beside {others.shape}; give some of each, all of one size")
    x = pictures.reshape(len(pictures), -1).astype(np.float64)
    index, error = np.zeros(len(x), np.int64), np.full(len(x), np.inf)
    for start in range(0, len(others), CHUNK):
        y = others[start : start + CHUNK].reshape(len(others[start : start + CHUNK]), -1).astype(np.float64)
        squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
        at = squares.argmin(1)
        found = squares[np.arange(len(x)), at] / x.shape[1]
        index, error = np.where(found < error, start + at, index), np.minimum(found, error)
    return Nearest(index, error)


@dataclass(frozen=True)
class Memory:
    """`copies` of n pictures, and from which share on that is more than chance: two deviations above a half.

    With q = M / (M + N), s has the variance k q (1 - q) / n and `copies` the slope 1 / (4 q (1 - q)). k >= 1 is how
    many of the pictures share their nearest neighbour, in the mean: what several are near to counts as seen but once.
    """

    copies: float
    limit: float


def memory(pictures: Pictures, learnt: Pictures, held_out: Pictures) -> Memory:
    """Whether `pictures` are copies of `learnt` ones; a tie counts half. BadInput as of `nearest`."""
    near, far = nearest(pictures, learnt), nearest(pictures, held_out)
    share = float((near.error < far.error).mean() + (near.error == far.error).mean() / 2)
    own, other = share * len(held_out), (1 - share) * len(learnt)
    neighbour = np.where(near.error <= far.error, near.index, len(learnt) + far.index)
    together = np.square(np.bincount(neighbour)).sum() / len(pictures)
    q = len(learnt) / (len(learnt) + len(held_out))
    return Memory(own / (own + other), 0.5 + 0.5 * math.sqrt(together / (len(pictures) * q * (1 - q))))


def copies(pictures: Pictures, learnt: Pictures, held_out: Pictures) -> float:
    """The share of `pictures` nearer to a learnt one than to any held-out one, as if there were as many of both."""
    return memory(pictures, learnt, held_out).copies
