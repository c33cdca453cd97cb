"""Blockwise downscaling: a clip starts with few large cells of even colour and ends with the pixels (next-scale
prediction; Tian et al. 2024).

      x_i = U_n D_n x_T,    n = cells along the longer side in frame i, growing by equal ratios

D_n is the mean over a cell, U_n gives every pixel the colour of its cell; where a cell's border runs through a pixel,
both count by the area covered. So every frame keeps the mean of the image, whatever the sizes. Paper: not in it.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.video.pseudo.kind import PseudoVideo


@dataclass(frozen=True)
class Blocks(PseudoVideo):
    """Clips of images in cells; the first frame has `coarsest` cells along the longer side.

    Where there are more frames than sizes, neighbours may look the same.
    """

    coarsest: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coarsest < 1:
            raise BadInput(f"the first frame has at least 1 cell, got {self.coarsest}")

    def cells(self, length: int) -> tuple[int, ...]:
        """How many cells there are along a side of `length` pixels in the frames of a clip, the first first."""
        if self.coarsest > length:
            raise BadInput(f"an image of {length} pixels has no {self.coarsest} cells; ask for fewer")
        ratio = length / self.coarsest
        return tuple(round(self.coarsest * ratio ** (i / (self.frames - 1))) for i in range(self.frames))

    def corrupted(self, images: Tensor, rng: Rng) -> list[Tensor]:
        """As in `PseudoVideo`; nothing is drawn."""
        H, W = images.shape[-2:]
        longer = max(H, W)
        frames = []
        for n in reversed(self.cells(longer)[:-1]):
            rows, columns = (averaging(N, max(round(n * N / longer), 1)).to(images) for N in (H, W))
            frames.append(rows @ images @ columns.T)
        return frames


@lru_cache(maxsize=256)
def averaging(length: int, cells: int) -> Tensor:
    """U D for a side of `length` pixels in `cells` equal cells: (length, length), symmetric, rows of sum 1; float64."""
    pixel = torch.arange(length + 1, dtype=torch.float64)
    border = torch.arange(cells + 1, dtype=torch.float64) * length / cells
    right = torch.minimum(pixel[1:, None], border[1:])
    covered = (right - torch.maximum(pixel[:-1, None], border[:-1])).clamp(min=0)
    return covered @ covered.T * (cells / length)
