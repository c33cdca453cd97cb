"""Pictures of any size through an autoencoder, tile by tile, in memory that does not grow with the network's work.

Along each axis tiles of `tile` latents overlap. The outer `halo` latents of an inner edge, which the network computed
without their neighbours, are thrown away; over the next `fade` latents a tile gives way to its neighbour linearly, and
weights are divided by their sum. A decoder that sees no farther than `halo` latents is reproduced exactly. One that
looks at the whole picture (group norms, attention) is not, but its tiles melt into each other without an edge.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.arrays import continued
from framefill.errors import BadInput
from framefill.latents.autoencoder import Autoencoder


@dataclass(frozen=True)
class Span:
    """A tile along one axis: latents `start` to `stop`, of which `halo` before and after are not used."""

    start: int
    stop: int
    before: int
    after: int


def spans(length: int, *, tile: int, halo: int, fade: int) -> list[Span]:
    """Tiles that cover `length` latents; the last ends where they do."""
    if length <= tile:
        return [Span(0, length, 0, 0)]
    starts = [*range(0, length - tile, tile - 2 * halo - fade), length - tile]
    return [Span(a, a + tile, halo * (a > 0), halo * (a + tile < length)) for a in starts]


def ramp(span: Span, *, fade: int, scale: int) -> Tensor:
    """Weights (scale * length,) of a tile's pixels or latents: 0 in the halo, rising over `fade`, then 1."""
    place = (torch.arange(scale * (span.stop - span.start)) + 0.5) / scale
    weight = torch.ones_like(place)
    if span.before:
        weight *= ((place - span.before) / fade).clamp(0, 1)
    if span.after:
        weight *= ((span.stop - span.start - span.after - place) / fade).clamp(0, 1)
    return weight


@dataclass(frozen=True)
class Tiled:
    """`autoencoder` for pictures of any size, in tiles of `tile` latents with a `halo` and a `fade` of 1 or more.

    BadInput where tiles would not move on: tile must be more than 2 halo + 2 fade.
    """

    autoencoder: Autoencoder
    tile: int = 64
    halo: int = 4
    fade: int = 8

    def __post_init__(self) -> None:
        if self.halo < 1 or self.fade < 1 or self.tile <= 2 * self.halo + 2 * self.fade:
            raise BadInput(
                f"tiles of {self.tile} latents with halo {self.halo} and fade {self.fade}; halo and fade must be 1 or "
                f"more, and a tile larger than twice their sum"
            )

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, C, ceil(H / stride), ceil(W / stride)) of pictures x (B, channels, H, W) of any size.

        The picture is continued by its last row and column to a multiple of the stride.
        """
        H, W = x.shape[-2:]
        stride = self.autoencoder.stride
        if 0 in (H, W):
            raise BadInput(f"pictures of {H}x{W} hold nothing to encode")
        x = continued(x, stride)
        h, w = x.shape[-2] // stride, x.shape[-1] // stride

        def part(rows: slice, columns: slice) -> Tensor:
            return self.autoencoder.encode(x[..., _times(rows, stride), _times(columns, stride)])

        return self._joined(part, h, w, 1)

    def decode(self, z: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Pictures of `size` (H, W), by default all that z (B, C, h, w) holds: (stride h, stride w).

        BadInput for a size that z is not the encoding of.
        """
        h, w = z.shape[-2:]
        stride = self.autoencoder.stride
        H, W = size or (stride * h, stride * w)
        if (-(-H // stride), -(-W // stride)) != (h, w):
            raise BadInput(f"latents of {h}x{w} are not those of a picture of {H}x{W}: {stride} pixels make a latent")

        def part(rows: slice, columns: slice) -> Tensor:
            return self.autoencoder.decode(z[..., rows, columns])

        return self._joined(part, h, w, stride)[..., :H, :W]

    def _joined(self, part: Callable[[slice, slice], Tensor], h: int, w: int, scale: int) -> Tensor:
        """All tiles of an (h, w) field of latents, `part` of each computed and faded into one."""
        down, across = (spans(n, tile=self.tile, halo=self.halo, fade=self.fade) for n in (h, w))
        return joined(part, down, across, fade=self.fade, scale=scale)


def joined(
    part: Callable[[slice, slice], Tensor], down: list[Span], across: list[Span], *, fade: int, scale: int
) -> Tensor:
    """All tiles, `part(rows, columns)` (B, C, scale * rows, scale * columns) of each, faded into one another.

    Each tile is computed when it is needed and forgotten.
    """
    h, w = down[-1].stop, across[-1].stop
    if len(down) == len(across) == 1:
        return part(slice(0, h), slice(0, w))
    total: Tensor | None = None
    weights = torch.zeros(scale * h, scale * w)
    for rows in down:
        for columns in across:
            piece = part(slice(rows.start, rows.stop), slice(columns.start, columns.stop))
            vertical, horizontal = (ramp(s, fade=fade, scale=scale) for s in (rows, columns))
            weight = vertical[:, None] * horizontal
            place = (_times(slice(rows.start, rows.stop), scale), _times(slice(columns.start, columns.stop), scale))
            if total is None:
                total = piece.new_zeros(*piece.shape[:2], scale * h, scale * w, dtype=torch.float32)
            total[..., place[0], place[1]] += piece * weight.to(piece.device)
            weights[place] += weight
    assert total is not None
    return total / weights.to(total.device)


def _times(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)
