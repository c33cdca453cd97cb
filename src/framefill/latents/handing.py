"""Error diffusion (Floyd and Steinberg 1976): what rounding to a code takes from a colour, its neighbours get.

      code = nearest(z + handed),   left = z + handed - code,   7/16 of it to the right, 3/16, 5/16, 1/16 to those below

A code by itself is a few grey levels off, and over a picture of few colours that does not average out. Handed on, it
does: over any region the sum of the codes is that of the latents, up to what crossed its border. At the edge of the
picture the neighbours that are there share everything, so only the last latent keeps what is left.

Latents with the same column + 2 row do not depend on one another, and are chosen at once.
"""

import torch
from torch import Tensor

from framefill.latents.quantiser import nearest

NEIGHBOURS = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))  # rows down, columns across, share
LIMIT = 0.3  # of [-1, 1]: colours that no code has must not pile up


def handed_on(z: Tensor, codebook: Tensor, *, channels: int, limit: float = LIMIT) -> Tensor:
    """Codes (B, h, w) of latents z (B, D, h, w), with what is left of the first `channels` handed on, -limit..limit.

    Latents that are codes (K, D) already are given those codes.
    """
    B, D, h, w = z.shape
    wanted, codes = z.detach().float().clone(), codebook.detach().float()
    words = torch.zeros(B, h, w, dtype=torch.int64, device=z.device)
    for front in range(w + 2 * (h - 1)):
        rows = torch.arange(max(0, (front - w + 2) // 2), min(h - 1, front // 2) + 1, device=z.device)
        columns = front - 2 * rows
        here = wanted[:, :, rows, columns]
        found = nearest(here.movedim(1, -1).reshape(-1, D), codes).view(B, -1)
        words[:, rows, columns] = found
        left = (here - codes[found].movedim(-1, 1))[:, :channels].clamp(-limit, limit)
        _hand_on(wanted[:, :channels], left, rows, columns)
    return words


def _hand_on(wanted: Tensor, left: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Adds what is `left` (B, C, n) at n places of `wanted` (B, C, h, w) to those neighbours that are there."""
    h, w = wanted.shape[2:]
    there = [(rows + down < h) & (columns + across >= 0) & (columns + across < w) for down, across, _ in NEIGHBOURS]
    total = torch.stack([share * here for (_, _, share), here in zip(NEIGHBOURS, there, strict=True)]).sum(0)
    for (down, across, share), here in zip(NEIGHBOURS, there, strict=True):
        part = left[..., here] * (share / total[here])
        wanted[:, :, rows[here] + down, columns[here] + across] += part
