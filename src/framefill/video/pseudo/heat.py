"""The heat equation: an image as it cools, exactly, with no heat lost through the borders (Rissanen et al. 2022).

      x_{T-t} = C' diag(exp(-(s_t^2 / 2) w^2)) C x_T,     w = pi n / N

C is the orthonormal cosine transform: what it diagonalises is the Laplacian with insulated borders. s_t, in pixels, is
the width of the Gaussian that blurs as much; the s_t grow by equal ratios from `least` to `most`. `Noisy`
adds the noise of paper 000, eq. 11: every frame is solved for from the image, so its noise is its own.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.video.pseudo.kind import PseudoVideo


@dataclass(frozen=True)
class HeatEquation(PseudoVideo):
    """Clips of cooling images; `least` and `most` are the widths s_1 and s_{T-1}, in pixels; published ones for digits.

    The published noise of 0.01 is for levels in [0, 1]; in [-1, 1] it is 0.02.
    """

    least: float = 0.5
    most: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.least <= self.most < math.inf:
            raise BadInput(f"widths of heat grow from a positive one, got {self.least} to {self.most}")

    @property
    def widths(self) -> Tensor:
        """s_1 to s_{T-1}, float64."""
        ends = math.log(self.least), math.log(self.most)
        return torch.linspace(*ends, self.frames - 1, dtype=torch.float64).exp()

    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """As in `PseudoVideo`; nothing is drawn."""
        rows, columns = (cosines(length).to(images) for length in images.shape[-2:])
        spectrum = rows @ images @ columns.T
        kept = self.attenuation(*images.shape[-2:]).flip(0)[1:].to(images)
        return [rows.T @ (spectrum * factor) @ columns for factor in kept]

    def attenuation(self, height: int, width: int) -> Tensor:
        """What is left of the cosine of k along the height and l along the width: (frames, height, width), float64."""
        squares = [(math.pi * torch.arange(n, dtype=torch.float64) / n).square() for n in (height, width)]
        times = torch.cat([self.widths.flip(0).square() / 2, torch.zeros(1, dtype=torch.float64)])
        return (-times[:, None, None] * (squares[0][:, None] + squares[1])).exp()


@lru_cache(maxsize=8)
def cosines(length: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), one basis vector per row: (length, length), float64."""
    n = torch.arange(length, dtype=torch.float64)
    rows = (math.pi * n[:, None] * (n + 0.5) / length).cos() * math.sqrt(2 / length)
    return rows * torch.where(n == 0, math.sqrt(0.5), 1.0)[:, None]
