"""A linear transform of blocks, and its inverse, to start from: the first cosines of every 8x8 block, in YCbCr.

With these alone a codec is a JPEG of few coefficients; what networks learn is added to them on either side (compare the
residual "straight" way of latents/autoencoder.py). The cosines are orthonormal, the colours those of BT.601, so that
steps of one size cost about the same error in every channel.
"""

import math

import torch
from torch import Tensor

from framefill.errors import BadInput

BLOCK = 8
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def cosines(side: int = BLOCK) -> Tensor:
    """The orthonormal discrete cosine transform (type II) as a matrix (side, side), float64; rows rise in frequency."""
    k, n = torch.arange(side, dtype=torch.float64)[:, None], torch.arange(side, dtype=torch.float64)
    basis = torch.cos(math.pi * k * (2 * n + 1) / (2 * side)) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    return basis


def lowest(count: int, side: int = BLOCK) -> list[tuple[int, int]]:
    """The `count` lowest frequencies (v, u) of a block, by v + u, then v^2 + u^2, then v."""
    return sorted(
        ((v, u) for v in range(side) for u in range(side)), key=lambda f: (f[0] + f[1], f[0] ** 2 + f[1] ** 2, f[0])
    )[:count]


def channels(luma: int, chroma: int) -> list[tuple[int, int, int]]:
    """(colour, v, u) of `luma` and twice `chroma` channels, the lowest frequencies of all colours first."""
    both = [(0, *f) for f in lowest(luma)] + [(c, *f) for c in (1, 2) for f in lowest(chroma)]
    return sorted(both, key=lambda f: (f[1] + f[2] + (f[0] > 0), f))


def analysis(luma: int, chroma: int) -> Tensor:
    """Kernels (C, 3, 8, 8) that take blocks of RGB to channels, float32. BadInput for more than a block has."""
    if not (1 <= luma <= BLOCK**2 and 0 <= chroma <= luma):
        raise BadInput(f"{luma} luma and {chroma} chroma channels; give 1 to {BLOCK**2}, and no more chroma than luma")
    basis, colours = cosines(), torch.tensor(YCBCR, dtype=torch.float64)
    kernels = [colours[colour][:, None, None] * basis[v][:, None] * basis[u] for colour, v, u in channels(luma, chroma)]
    return torch.stack(kernels).float()


def synthesis(luma: int, chroma: int) -> Tensor:
    """Kernels (C, 3, 8, 8) of the way back: with all channels, the inverse of `analysis`."""
    basis, back = cosines(), torch.linalg.inv(torch.tensor(YCBCR, dtype=torch.float64))
    kernels = [back[:, colour][:, None, None] * basis[v][:, None] * basis[u] for colour, v, u in channels(luma, chroma)]
    return torch.stack(kernels).float()
