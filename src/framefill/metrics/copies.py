"""Whether a generator remembers: are its pictures nearer to what it learnt than to what it never saw?

A generator that has learnt the distribution and nothing by heart draws pictures whose nearest neighbours among N learnt
and N held-out ones are as often the one as the other. So its share of `copies` is a half, give or take
sqrt(1 / 4 n) for n pictures; one that remembers goes to 1. Distances are of pixels: what is moved or mirrored is far.
"""

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


def copies(pictures: Pictures, learnt: Pictures, held_out: Pictures, *, seed: int = 0) -> float:
    """The share of `pictures` nearer to a learnt one than to any held-out one, among as many of each drawn by `seed`.

    A tie counts half: two equal sets say nothing. BadInput as of `nearest`.
    """
    count = min(len(learnt), len(held_out))
    chosen = [np.random.default_rng((seed, len(of))).permutation(len(of))[:count] for of in (learnt, held_out)]
    near, far = (nearest(pictures, of[which]).error for of, which in zip((learnt, held_out), chosen, strict=True))
    return float((near < far).mean() + (near == far).mean() / 2)
