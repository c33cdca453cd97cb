"""Rounding that keeps averages: finer pictures of 8 bits whose blocks have exactly the mean they were made for.

Rounded one by one, the pixels of a block miss its mean by up to half a level. Here a block is first moved, by one
number, to where its clipped values have the right sum, and then as many of them are rounded up, those with the largest
fractions, as the sum needs (the method of largest remainders). A sum of n levels between 0 and 255 n can always be had.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.errors import BadInput

TOP = 255
HALVINGS = 60
"""Of the interval in which the number lies: to the last digit."""


def averaging_to(coarse: NDArray[np.uint8], finer: Tensor) -> NDArray[np.uint8]:
    """Levels (N, H, W, C) nearest to `finer` (N, C, H, W) in [-1, 1] whose blocks average to `coarse` (N, h, w, C).

    H and W are h and w times the same whole number, else BadInput.
    """
    N, h, w, C = coarse.shape
    n = finer.shape[-1] // w if w else 0
    if finer.shape != (N, C, n * h, n * w) or n < 1:
        raise BadInput(f"a picture {tuple(finer.shape)} is not made of equal blocks for {coarse.shape}")
    values = (finer.double() + 1) * (TOP / 2)
    blocks = values.reshape(N, C, h, n, w, n).permute(0, 1, 2, 4, 3, 5).reshape(N, C, h, w, n * n)
    sums = torch.from_numpy(coarse.astype(np.int64)).permute(0, 3, 1, 2) * n * n
    whole = _largest_remainders(_moved(blocks, sums), sums)
    rows = whole.reshape(N, C, h, w, n, n).permute(0, 2, 4, 3, 5, 1)
    return rows.reshape(N, n * h, n * w, C).numpy().astype(np.uint8)


def _moved(blocks: Tensor, sums: Tensor) -> Tensor:
    """blocks (..., n) plus a number each and clipped to 0..TOP, so that they sum to `sums` (...)."""
    low, high = -blocks.amax(-1), TOP - blocks.amin(-1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        short = (blocks + middle[..., None]).clamp(0, TOP).sum(-1) < sums
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (blocks + high[..., None]).clamp(0, TOP)


def _largest_remainders(values: Tensor, sums: Tensor) -> Tensor:
    """Whole numbers (..., n) that sum to `sums`: `values` rounded down, the largest fractions up."""
    # a value a hair's breadth below a whole number is that number
    down = (values + 1e-7).floor().long()
    missing = sums - down.sum(-1)
    order = (values - down).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)
    return down + (order < missing[..., None]).long()
