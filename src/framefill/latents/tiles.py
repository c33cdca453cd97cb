"""Pictures of any size through an autoencoder, tile by tile, in memory that does not grow with the network's work.

Along each axis tiles of `tile` latents overlap. The outer `halo` latents of an inner edge, which the network computed
without their neighbours, are thrown away; over the next `fade` latents a tile gives way to its neighbour linearly, and
weights are divided by their sum. A decoder that sees no farther than `halo` latents is reproduced exactly. One that
looks at the whole picture (group norms, attention) is not, but its tiles melt into each other without an edge.
"""

from collections.abc import Callable, Iterator
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
    if len(down) == len(across) == 1:
        return part(slice(0, down[-1].stop), slice(0, across[-1].stop))
    return torch.cat(list(bands(part, down, across, fade=fade, scale=scale)), 2)


def bands(
    part: Callable[[slice, slice], Tensor], down: list[Span], across: list[Span], *, fade: int, scale: int
) -> Iterator[Tensor]:
    """What `joined` gives, in pieces (B, C, rows, width) from top to bottom, with the memory of one row of tiles."""
    waiting: tuple[Tensor, Tensor] | None = None
    for number, rows in enumerate(down):
        total, weights = _across(part, rows, across, fade=fade, scale=scale)
        if waiting is not None:
            known = waiting[1].shape[0]
            total[..., :known, :] += waiting[0]
            weights[:known] += waiting[1]
        last = number + 1 == len(down)
        done = scale * ((rows.stop if last else down[number + 1].start) - rows.start)
        yield total[..., :done, :] / weights[:done].to(total.device)
        waiting = total[..., done:, :].clone(), weights[done:].clone()


def _across(
    part: Callable[[slice, slice], Tensor], rows: Span, across: list[Span], *, fade: int, scale: int
) -> tuple[Tensor, Tensor]:
    """One row of tiles, each times its weights, and the sums of weights."""
    total: Tensor | None = None
    weights = torch.zeros(scale * (rows.stop - rows.start), scale * across[-1].stop)
    vertical = ramp(rows, fade=fade, scale=scale)[:, None]
    for columns in across:
        piece = part(slice(rows.start, rows.stop), slice(columns.start, columns.stop))
        weight = vertical * ramp(columns, fade=fade, scale=scale)
        place = _times(slice(columns.start, columns.stop), scale)
        if total is None:
            total = piece.new_zeros(*piece.shape[:2], *weights.shape, dtype=torch.float32)
        total[..., place] += piece * weight.to(piece.device)
        weights[:, place] += weight
    assert total is not None
    return total, weights


def _times(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)
