"""A video as a few pictures that move: what they show stays, where they are follows a path.

    x(t) = background(s),   then for each layer   x(t) <- (1 - a) x(t) + a picture(s)   at the place p(z(t))

Ours, after Attend, Infer, Repeat (Eslami et al. 2016): the code of a clip is (s, z), and only z moves. Pictures are
drawn once a clip and put in place at every instant, so a digit need not be drawn anew where it goes, and a step of
training costs a third. Where a layer is in a frame is the mean of a learned map of attention (Finn et al. 2016), which
moves as the frame does. Places are those of a layer's middle, x and y, from -1 to 1 over the frame.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CALM = -5.0
"""The logarithm of the variance of a code before training: large noise would hide what there is to learn."""

SALIENCE = 8.0
"""How much attention differences are worth before training."""


class Layers(NamedTuple):
    """What a clip shows: a background (B, C, H, W), and of K layers pixels (B, K, C, h, w) and opacity (B, K, 1, h, w).

    Pixels lie in [-1, 1], opacities in [0, 1]; a layer is half as wide and high as the frame.
    """

    background: Tensor
    pixels: Tensor
    opacity: Tensor


class Attention(nn.Module):
    """Where each of `layers` things is: frames (N, C, H, W) to places (N, layers, 2)."""

    def __init__(self, channels: int, layers: int):
        super().__init__()
        self.maps = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(channels, 16, 5, 2, 2), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, layers, 1),
        )  # fmt: skip
        self.salience = nn.Parameter(torch.full((layers, 1, 1), SALIENCE))

    def forward(self, frames: Tensor) -> Tensor:
        """The places."""
        # what differs from the rest of its frame is a good first guess; without it all begins and stays in the middle
        apart = (frames - frames.mean((2, 3), keepdim=True)).abs().mean(1, keepdim=True)
        maps = self.maps(frames)
        maps = maps + self.salience * F.adaptive_avg_pool2d(apart, maps.shape[2:])
        weights = maps.flatten(2).softmax(2).unflatten(2, maps.shape[2:])
        x, y = (middles(n, maps) for n in (maps.shape[3], maps.shape[2]))
        return torch.stack([(weights.sum(2) * x).sum(2), (weights.sum(3) * y).sum(2)], 2)


class LayerEncoder(nn.Module):
    """The code (B, still + moving) of a clip: what is in the crops where attention looks, and where that went."""

    def __init__(self, size: tuple[int, int, int], layers: int, hidden: int, still: int, moving: int):
        super().__init__()
        C, H, W = size
        self.layers, self.still, self.moving = layers, still, moving
        self.attention = Attention(C, layers)
        self.look = nn.Linear(layers * C * (H // 2) * (W // 2) + C * 64, 2 * hidden)
        self.what = nn.Linear(2 * hidden, 2 * still)
        self.cell = nn.GRUCell(2 * layers + 1, hidden)
        self.where = nn.Linear(hidden + 2 * layers, 2 * moving)
        for out in (self.what, self.where):
            nn.init.constant_(out.bias[len(out.bias) // 2 :], CALM)

    def places(self, frames: Tensor) -> Tensor:
        """Where the layers are (B, T, K, 2) in frames (B, T, C, H, W), each by itself."""
        return self.attention(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def forward(self, frames: Tensor, times: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, of frames (B, T, C, H, W) at rising times (B, T), where shown (B, T)."""
        places = self.places(frames)
        parts = [
            part.chunk(2, 1)
            for part in (self._what(frames, places, shown), self._where(places.flatten(2), times, shown))
        ]
        mean, log_variance = (torch.cat(halves, 1) for halves in zip(*parts, strict=True))
        return mean, log_variance

    def _what(self, frames: Tensor, places: Tensor, shown: Tensor) -> Tensor:
        """The same in whatever order the frames come."""
        whole, at = frames.flatten(0, 1), places.flatten(0, 1)
        crops = cut(whole, at).flatten(1)
        small = F.adaptive_avg_pool2d(whole, 8).flatten(1)
        seen = self.look(torch.cat([crops, small], 1)).relu().unflatten(0, frames.shape[:2])
        weights = shown.to(seen) / shown.sum(1, keepdim=True)
        return self.what((seen * weights[..., None]).sum(1))

    def _where(self, places: Tensor, times: Tensor, shown: Tensor) -> Tensor:
        """The last place first, each told how long it is to the one read before it; the first always is shown."""
        h, last = places.new_zeros(len(places), self.cell.hidden_size), times[:, -1:]
        for i in reversed(range(places.shape[1])):
            here, now = shown[:, i : i + 1], times[:, i : i + 1]
            h = torch.where(here, self.cell(torch.cat([places[:, i], (last - now).to(h)], 1), h), h)
            last = torch.where(here, now, last)
        return self.where(torch.cat([h, places[:, 0]], 1))


class LayerDecoder(nn.Module):
    """Codes to layers and places, and these to frames."""

    def __init__(self, size: tuple[int, int, int], layers: int, hidden: int, still: int, moving: int):
        super().__init__()
        self.size, self.layers, self.still = size, layers, still
        C, H, W = size
        self.shape = (layers, C + 1, H // 2, W // 2)
        self.pixels = nn.Sequential(
            nn.Linear(still, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, layers * (C + 1) * (H // 2) * (W // 2))
        )
        self.background = nn.Linear(still, C * 64)
        self.at = nn.Sequential(nn.Linear(moving, hidden), nn.ELU(), nn.Linear(hidden, 3 * layers))

    def drawn(self, s: Tensor) -> Layers:
        """The layers of the still part (B, S) of codes."""
        coarse = self.background(s).unflatten(1, (self.size[0], 8, 8))
        background = F.interpolate(coarse, self.size[1:], mode="bilinear", align_corners=False)
        raw = self.pixels(s).unflatten(1, self.shape)
        return Layers(background.tanh(), raw[:, :, :-1].tanh(), raw[:, :, -1:].sigmoid())

    def places(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Places (..., K, 2) and strengths (..., K) in [0, 1] of the moving part (..., M) of codes."""
        raw = self.at(z).unflatten(-1, (self.layers, 3))
        return raw[..., :2], (raw[..., 2] + 3).sigmoid()  # at first as good as opaque

    def forward(self, path: Tensor) -> Tensor:
        """Frames (B, T, C, H, W) of codes (B, T, D), whose still part is that of the first."""
        return composed(self.drawn(path[:, 0, : self.still]), *self.places(path[..., self.still :]))


def composed(layers: Layers, places: Tensor, strength: Tensor) -> Tensor:
    """Frames (B, T, C, H, W) of layers at places (B, T, K, 2), of strengths (B, T, K): later layers are in front."""
    _, T, K = strength.shape
    x = layers.background[:, None].expand(-1, T, -1, -1, -1)
    # transparent pixels are nothing, not black: what is put in place is premultiplied by the opacity
    whole = torch.cat([layers.pixels * layers.opacity, layers.opacity], 2)
    for k in range(K):
        put = placed(whole[:, k], places[:, :, k], x.shape[3:]) * strength[:, :, k, None, None, None]
        x = x * (1 - put[:, :, -1:]) + put[:, :, :-1]
    return x


def placed(pictures: Tensor, places: Tensor, size: torch.Size) -> Tensor:
    """Pictures (B, C, h, w), half as large as a frame of `size`, on zeros at places (B, T, 2): (B, T, C, H, W)."""
    B, T = places.shape[:2]
    x, y = (middles(n, places) for n in (size[1], size[0]))
    # one sampling a clip, its frames below each other: pictures need no copies
    grid = 2 * torch.stack(
        [
            (x - places[..., 0, None])[:, :, None, :].expand(B, T, *size),
            (y - places[..., 1, None])[:, :, :, None].expand(B, T, *size),
        ],
        -1,
    )
    flat = F.grid_sample(pictures, grid.flatten(1, 2), align_corners=False)
    return flat.unflatten(2, (T, size[0])).transpose(1, 2)


def cut(frames: Tensor, places: Tensor) -> Tensor:
    """The halves of frames (N, C, H, W) around places (N, K, 2): (N, K, C, H/2, W/2); zeros beyond the border."""
    N, K = places.shape[:2]
    h, w = frames.shape[2] // 2, frames.shape[3] // 2
    grid = torch.stack(
        [
            (middles(w, places) / 2 + places[..., 0, None])[:, :, None, :].expand(N, K, h, w),
            (middles(h, places) / 2 + places[..., 1, None])[:, :, :, None].expand(N, K, h, w),
        ],
        -1,
    )
    flat = F.grid_sample(frames, grid.flatten(1, 2), align_corners=False)
    return flat.unflatten(2, (K, h)).transpose(1, 2)


def middles(count: int, like: Tensor) -> Tensor:
    """The middles of `count` pixels from -1 to 1."""
    return (torch.arange(count, device=like.device).to(like) * 2 + 1) / count - 1
