"""A network that repairs frames, tile by tile, so that 4K takes no more memory than its tiles.

Motion is found, and frames are carried along it, in the whole picture; only the network's own work is cut. Cells are
`CELL` pixels of the whole picture and half as many of what is seen at half the resolution, so every tile begins where
the network's coarsest grid does. The network reads the two frames where things came from and go to: the `halo` of a
tile that is thrown away is as wide as its sight, and as the longest motion, up to `FARTHEST`. Up to there tiles give
what the whole picture would.
"""

from torch import Tensor, nn

from framefill.arrays import continued
from framefill.latents.tiles import Span, joined, spans

CELL = 16  # pixels: the coarsest grid of nets/repair.py
FARTHEST = 24  # cells of motion
MOTION = slice(-7, -3)  # channels of what is seen at half the resolution


class Tiled(nn.Module):
    """`network(whole, half)`, see `nets.repair`, in tiles of at most `tile` cells a side that melt over `fade` cells.

    `sight` is how many cells away the network looks. Pictures of up to one tile are seen whole.
    """

    def __init__(self, network: nn.Module, *, tile: int = 128, sight: int = 9, fade: int = 4):
        super().__init__()
        self.network, self.tile, self.sight, self.fade = network, tile, sight, fade

    def forward(self, whole: Tensor, half: Tensor) -> Tensor:
        """As `network`."""
        H, W = whole.shape[-2:]
        h, w = -(-H // CELL), -(-W // CELL)
        if max(h, w) <= self.tile:
            made: Tensor = self.network(whole, half)
            return made
        whole, half = continued(whole, CELL), continued(half, CELL // 2)
        longest = float(half[:, MOTION].abs().max()) * 2 / CELL
        halo = self.sight + min(int(longest) + 1, FARTHEST)

        def part(rows: slice, columns: slice) -> Tensor:
            found: Tensor = self.network(_cut(whole, rows, columns, CELL), _cut(half, rows, columns, CELL // 2))
            return found

        down, across = (even_spans(n, most=self.tile, halo=halo, fade=self.fade) for n in (h, w))
        return joined(part, down, across, fade=self.fade, scale=CELL)[..., :H, :W]


def even_spans(length: int, *, most: int, halo: int, fade: int) -> list[Span]:
    """As few tiles of up to `most` cells (or twice what they share) as cover `length`, all of about the same size."""
    shared = 2 * halo + fade
    most = max(most, 2 * shared)
    if length <= most:
        return spans(length, tile=length, halo=halo, fade=fade)
    count = -(-(length - shared) // (most - shared))
    return spans(length, tile=-(-(length + (count - 1) * shared) // count), halo=halo, fade=fade)


def _cut(x: Tensor, rows: slice, columns: slice, cell: int) -> Tensor:
    return x[..., rows.start * cell : rows.stop * cell, columns.start * cell : columns.stop * cell]
