"""The law of differences along time: Gaussians around zero, as wide as what is known nearby says. Nothing is learnt.

What moves in one band moves in its neighbours: magnitudes of the same channel and of all channels at known positions
beside, those of the coarser band that covers it, the channel's and the band's mean. Their weighted sum is the standard
deviation, in whole numbers, in the five passes of `codec.context`. The weights were fitted to bands of five films at
three qualities (least bits); where nothing moves a symbol costs a thousandth of a bit.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from framefill.codec import gaussian
from framefill.codec.context import sites

# Known positions beside those of a pass.
BESIDE = (
    (),
    ((-2, -2), (-2, 2), (2, -2), (2, 2)),
    ((-2, 0), (0, -2), (0, 2), (2, 0)),
    ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    ((-1, 0), (0, -1), (0, 1), (1, 0)),
)
REACH = 2
# By pass, in 64ths: beside, all channels beside, coarser, all channels coarser, the channel's mean, the band's, bias.
ALONE = (
    (0, 0, 0, 0, 0, 55, 11), (46, 9, 0, 0, 17, 3, 10), (47, 12, 0, 0, 13, 3, 9), (47, 11, 0, 0, 12, 3, 10),
    (53, 16, 0, 0, 10, 3, 9),
)  # fmt: skip
COVERED = (
    (0, 0, 31, 6, 4, 4, 9), (9, 3, 29, 6, 6, 3, 8), (26, 5, 23, 4, 5, 3, 9), (25, 6, 21, 4, 5, 3, 9),
    (38, 9, 14, 3, 4, 2, 9),
)  # fmt: skip
WIDTHS = torch.tensor([gaussian.width(i) for i in range(gaussian.WIDTHS)])
Pass = Callable[[Tensor, Tensor], Tensor]


def level(band: Tensor) -> int:
    """The mean magnitude of symbols (C, h, w), above zero, as a number 0..63: the nearest of widths / 256 below."""
    mean = int(band.abs().sum()) * 256 // band.numel()
    return max(int(torch.bucketize(torch.tensor(mean), WIDTHS, right=True)) - 1, 0)


def passes(size: tuple[int, int], channels: int, covering: Tensor | None, mean: int, code: Pass) -> Tensor:
    """Symbols int64 (C, h, w), from what `code` gives in each of five passes.

    It is called with positions (N,), indices into h w, and rows (C, N) of the Gaussian tables, and gives the symbols
    (C, N) there. `covering` (C, h, w) are the symbols of the coarser band, if there is one; `mean` is a `level`.
    """
    found = torch.zeros(channels, *size, dtype=torch.int64)
    known = torch.zeros(size, dtype=torch.int64)
    coarse = None if covering is None else smoothed(covering.abs())
    for index in range(len(BESIDE)):
        places = sites(size, index)
        if len(places):
            widths = _widths(index, found.abs(), known, coarse, mean).flatten(1)[:, places]
            found.flatten(1)[:, places] = code(places, widths * gaussian.FRACTIONS)
            known.view(-1)[places] = 1
    return found


def smoothed(magnitudes: Tensor) -> Tensor:
    """16 times the mean of (C, h, w) over 3 x 3, with weights 1 2 1 both ways; beyond the edge is 0."""
    down = F.pad(magnitudes, (0, 0, 1, 1))
    down = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    across = F.pad(down, (1, 1))
    return across[..., :-2] + 2 * across[..., 1:-1] + across[..., 2:]


def _widths(index: int, known: Tensor, where: Tensor, coarse: Tensor | None, mean: int) -> Tensor:
    """Numbers of widths 0..63 (C, h, w); `known` magnitudes are 0 where `where` (h, w) is."""
    weights = ALONE[index] if coarse is None else COVERED[index]
    offsets = BESIDE[index]
    total = torch.full_like(known, (weights[6] << 4) + (weights[5] * int(WIDTHS[mean]) >> 4))
    if coarse is not None:
        total += weights[2] * coarse + weights[3] * coarse.sum(0) // len(coarse)
    if not offsets:
        own = None if coarse is None else coarse.sum((1, 2)) // where.numel()
    else:
        near = 16 * _sum(known, offsets) // _sum(where[None], offsets).clamp(min=1)
        total += weights[0] * near + weights[1] * near.sum(0) // len(known)
        own = 16 * known.sum((1, 2)) // where.sum().clamp(min=1)
    if own is not None:
        total += weights[4] * own[:, None, None]
    return (torch.bucketize(total >> 4, WIDTHS, right=True) - 1).clamp(0, gaussian.WIDTHS - 1)


def _sum(x: Tensor, offsets: tuple[tuple[int, int], ...]) -> Tensor:
    h, w = x.shape[1:]
    padded = F.pad(x, [REACH] * 4)
    return torch.stack([padded[:, REACH + y :, REACH + x :][:, :h, :w] for y, x in offsets]).sum(0)
