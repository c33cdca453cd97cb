"""One picture from several views of it, which agree in most places, and a small latent that says what none does.

      views -> one stem for all, mean over views -> features at 1/2, 1/4, 1/8         what the views say
      truth against every view -> a few numbers at 1/8                                what they do not: the latent
      features, latent -> up to 1/2 -> mixed = sum_i m_i view_i(place + d_i),  sum_i m_i = 1
                                       picture = mixed + s (mixed - blurred) + repair

Every view passes the same weights and their order is lost in a mean, so any number of views goes, and exchanging two of
them changes nothing. m_i starts at what trust and distance say, and lets a pixel choose where views disagree; d_i moves
what was carried a little beside its place; s gives back the sharpness that reading between pixels takes. There is no
normalisation: what a layer says depends on its surroundings only, so tiles agree with the whole picture.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import check_size, conv, fresh
from framefill.nets.warp import fetch

STRIDE = 8  # pixels per latent
PATCH = 2  # pixels are seen in blocks of 2x2
SHIFT_UNIT = 4.0  # pixels: places are corrected in these
FAR = 0.02  # how much a view counts at the start that was known a whole gap away or more, a near one counting 1


class Block(nn.Module):
    """Two convolutions around a shortcut, no normalisation; starts as the identity."""

    def __init__(self, features: int):
        super().__init__()
        self.conv_0, self.conv_1 = conv(features, features), conv(features, features, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps in, feature maps out."""
        return x + self.conv_1(F.silu(self.conv_0(F.silu(x))))


def blocks(features: int, count: int) -> nn.Sequential:
    """So many blocks."""
    return nn.Sequential(*[Block(features) for _ in range(count)])


class Stem(nn.Module):
    """Planes of every view (B, V, planes, H, W) to features of every view (B, V, features, H / 2, W / 2)."""

    def __init__(self, planes: int, features: int):
        super().__init__()
        self.enter = conv(planes * PATCH**2, features)

    def forward(self, views: Tensor) -> Tensor:
        """The features of each view by itself; BadInput unless H and W are multiples of 8."""
        check_size(views, STRIDE)
        h = F.silu(self.enter(F.pixel_unshuffle(views.flatten(0, 1), PATCH)))
        return h.unflatten(0, views.shape[:2])


class Descent(nn.Module):
    """Features at 1/2 to those at 1/2, 1/4 and 1/8."""

    def __init__(self, widths: Sequence[int], count: int):
        super().__init__()
        self.levels = nn.ModuleList([blocks(width, count) for width in widths])
        self.halves = nn.ModuleList([fresh(nn.Conv2d(a, b, 2, stride=2)) for a, b in pairwise(widths)])

    def forward(self, h: Tensor) -> list[Tensor]:
        """Fine to coarse."""
        found = [self.levels[0](h)]
        for half, level in zip(self.halves, list(self.levels)[1:], strict=True):
            found.append(level(half(F.silu(found[-1]))))
        return found


class Reader(nn.Module):
    """What views (B, V, planes, H, W) say: the features of each at 1/2, and those of all at 1/2, 1/4 and 1/8."""

    def __init__(self, planes: int, widths: Sequence[int], count: int):
        super().__init__()
        _check(widths)
        self.stem, self.descent = Stem(planes, widths[0]), Descent(widths, count)

    def forward(self, views: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, V, widths[0], H / 2, W / 2), and a list of (B, widths[k], ...)."""
        each = self.stem(views)
        return each, self.descent(each.mean(1))


class Teller(nn.Module):
    """What the truth adds to the views: (B, latent, H / 8, W / 8), of any size."""

    def __init__(self, planes: int, latent: int, widths: Sequence[int], count: int):
        super().__init__()
        _check(widths)
        self.stem, self.descent = Stem(planes, widths[0]), Descent(widths, count)
        self.head = conv(widths[-1], latent)

    def forward(self, views: Tensor) -> Tensor:
        """`views` (B, V, planes, H, W) have the difference of the truth among their planes."""
        return self.head(F.silu(self.descent(self.stem(views).mean(1))[-1])).float()


class ViewPainter(nn.Module):
    """The picture, from views, what a `Reader` says of them, and a latent (B, latent, H / 8, W / 8).

    The latent is heard where features are coarsest, and heeded once more before shares, shifts, sharpness and repair.
    """

    def __init__(self, latent: int, widths: Sequence[int], count: int, *, channels: int = 3):
        super().__init__()
        _check(widths)
        self.channels = channels
        self.hear = conv(latent, widths[-1], scale=0.0)
        self.heed = conv(latent, widths[0], 1, scale=0.0)
        self.coarse = blocks(widths[-1], count)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.doubles = nn.ModuleList([conv(a, b, 1) for a, b in pairs])
        self.levels = nn.ModuleList([blocks(b, count) for _, b in pairs])
        self.choice = conv(widths[0], PATCH**2 + 2, scale=0.0)
        self.repair = conv(widths[0], (1 + channels) * PATCH**2, scale=0.0)

    def forward(self, views: Tensor, read: tuple[Tensor, list[Tensor]], z: Tensor) -> Tensor:
        """The picture (B, channels, H, W), not clipped; views (B, V, channels + 2, H, W) end in trust and distance."""
        each, levels = read
        h = self.coarse(levels[-1] + self.hear(z.to(levels[-1].dtype)))
        for double, level, skip in zip(self.doubles, self.levels, levels[-2::-1], strict=True):
            h = level(skip + F.interpolate(double(F.silu(h)), scale_factor=2, mode="nearest"))
        h = h + F.interpolate(self.heed(z.to(h.dtype)), scale_factor=STRIDE // PATCH, mode="bilinear")
        said = F.pixel_shuffle(self.repair(F.silu(h)).float(), PATCH)
        mixed = self._mixed(views.float(), each + h[:, None])
        blurred = F.avg_pool2d(F.pad(mixed, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return mixed + said[:, :1] * (mixed - blurred) + said[:, 1:]

    def _mixed(self, views: Tensor, each: Tensor) -> Tensor:
        """Every view, read where its features (B, V, features, H / 2, W / 2) say, in the shares they say."""
        said = self.choice(F.silu(each).flatten(0, 1)).float()
        favour = F.pixel_shuffle(said[:, :-2], PATCH).unflatten(0, each.shape[:2])
        moved = SHIFT_UNIT * F.interpolate(said[:, -2:], scale_factor=PATCH, mode="bilinear")
        with torch.autocast(views.device.type, enabled=False):
            seen = fetch(views[:, :, : self.channels].flatten(0, 1), moved).unflatten(0, each.shape[:2])
        return ((favour + prior(views)).softmax(1) * seen).sum(1)


def prior(views: Tensor) -> Tensor:
    """The logarithm of what every view counts at the start (B, V, 1, H, W): its trust times how near it was known."""
    return (views[:, :, -2:-1] * (1 - views[:, :, -1:]).clamp(min=FAR)).log()


def _check(widths: Sequence[int]) -> None:
    if len(widths) != 3 or min(widths) < 1:
        raise BadInput(f"give three widths of 1 or more, for the features at 1/2, 1/4 and 1/8, got {tuple(widths)}")
