"""The space-time U-Net of continuous-time video diffusion (paper 003; facts, section 4), factorised: convolutions and
linear attention look at one frame at a time, temporal attention at one place at a time.

    x (+ cond) -> 7x7 stem -> temporal -> [blocks, spatial, temporal, down] -> middle -> [blocks, spatial, temporal, up]
                                  |              one skip connection per level                                |
                                  +--------------------- final skip connection ------------------------- + -> head

Features are (B, T, H, W, C) in memory throughout, so that a frame, a place over time and a sample are all views: T
folds into the batch for convolutions, H and W into the batch for temporal attention, T into H for the group
normalisation, whose groups reach over all frames.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.arrays import continued
from framefill.errors import BadInput
from framefill.nets.layers import NoiseLevel, attend, fresh, linear, normalise, variance_scaling

GROUPS = 8
BUCKETS, FAR = 32, 32  # of the relative position bias, and the distance from which one bucket takes all
ROTATED = 32  # at most so many channels of a head carry the rotation


def around(x: Tensor, columns: int) -> Tensor:
    """x (N, H, W, C) continued round the globe: its last `columns` in front, its first behind."""
    W = x.shape[2]
    if columns <= W:
        return torch.cat([x[:, :, W - columns :], x, x[:, :, :columns]], 2)
    return x[:, :, torch.arange(-columns, W + columns, device=x.device) % W]


class Frames(nn.Module):
    """A picture layer on every frame of (B, T, H, W, C); zero padding, or `wrap` columns from round the globe."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d, wrap: int, scale: float = 1.0):
        super().__init__()
        self.layer, self.wrap = fresh(layer, scale), wrap

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H, W, C) to (B, T, H', W', C')."""
        h = x.flatten(0, 1)
        h = around(h, self.wrap) if self.wrap else h
        return self.layer(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def same(inputs: int, outputs: int, size: int, periodic: bool) -> Frames:
    """A convolution of odd size that keeps height and width."""
    p = size // 2
    return Frames(nn.Conv2d(inputs, outputs, size, padding=(p, 0 if periodic else p)), p if periodic else 0)


def down(features: int, periodic: bool) -> Frames:
    """Half the height and width by a 4x4 convolution."""
    return Frames(nn.Conv2d(features, features, 4, 2, padding=(1, 0 if periodic else 1)), 1 if periodic else 0)


def up(features: int, periodic: bool) -> Frames:
    """Twice the height and width by a transposed 4x4 convolution.

    Column i reaches columns 2i - 1 to 2i + 2; with a column added on each side, 2 more have to be cut off there.
    Only a quarter of the weights reach a pixel, so they start with 4 times the variance.
    """
    layer = nn.ConvTranspose2d(features, features, 4, 2, padding=(1, 3 if periodic else 1))
    return Frames(layer, 1 if periodic else 0, scale=4.0)


class Convolve(nn.Module):
    """3x3 convolution, group normalisation over all frames, scale and shift by the noise level, SiLU."""

    def __init__(self, inputs: int, outputs: int, periodic: bool, *, gain: float = 1.0):
        super().__init__()
        self.conv = same(inputs, outputs, 3, periodic)
        self.weight = nn.Parameter(torch.full((outputs,), gain))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """x (B, T, H, W, inputs), scale and shift (B, outputs), to (B, T, H, W, outputs)."""
        h = self.conv(x)
        weight, bias = self.weight.to(h.dtype)[None], self.bias.to(h.dtype)[None]
        if scale is not None and shift is not None:
            weight, bias = weight * (1 + scale), torch.addcmul(shift, bias, 1 + scale)
        y = normalise(h.flatten(1, 2).permute(0, 3, 1, 2), GROUPS, 1e-5)
        y = F.silu(torch.addcmul(bias[:, :, None, None], y, weight[:, :, None, None]))
        return y.permute(0, 2, 3, 1).unflatten(1, h.shape[1:3])


class Block(nn.Module):
    """Two convolutions around a shortcut; the gain of the second starts at zero, so a fresh block is its shortcut."""

    def __init__(self, inputs: int, outputs: int, embedding: int, periodic: bool):
        super().__init__()
        self.level = linear(embedding, 2 * outputs) if embedding else None
        self.first = Convolve(inputs, outputs, periodic)
        self.second = Convolve(outputs, outputs, periodic, gain=0.0)
        self.shortcut = linear(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x (B, T, H, W, inputs) and the activated embedding of the noise level (B, E) to (B, T, H, W, outputs)."""
        film = () if self.level is None else self.level(level).chunk(2, 1)
        return self.shortcut(x) + self.second(self.first(x, *film))


class Attention(nn.Module):
    """What the three attentions share: norm over channels, and the projections to and from heads."""

    def __init__(self, features: int, heads: int, head_width: int, *, bias: bool = False):
        super().__init__()
        self.heads, hidden = heads, heads * head_width
        self.gain = nn.Parameter(torch.ones(features))
        self.qkv = nn.Linear(features, 3 * hidden, bias=False)
        for part in self.qkv.weight.data.chunk(3):
            variance_scaling(part, 0.1)
        self.out = nn.Linear(hidden, features, bias=bias)
        variance_scaling(self.out.weight, 0.0)
        if bias:
            nn.init.zeros_(self.out.bias)

    def norm(self, x: Tensor) -> Tensor:
        """x (..., C) with mean 0 and variance 1 over its channels, times the gain."""
        return F.layer_norm(x, self.gain.shape, self.gain)


class LinearAttention(Attention):
    """Spatial attention whose cost is linear in the number of places: a summary of each frame, read by every place.

    softmax_channels(q) D^(-1/2) (softmax_places(k)' v), as in Shen et al., "Efficient attention". The projections put
    places last, where both softmaxes are ten times as fast as over the few channels of a head.
    """

    def __init__(self, features: int, heads: int, head_width: int):
        super().__init__(features, heads, head_width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) to the same shape."""
        y = self.norm(x).flatten(0, 1).flatten(1, 2)
        qkv = torch.bmm(self.qkv.weight.expand(len(y), -1, -1), y.mT)
        h = self.mix(*qkv.unflatten(1, (3, self.heads, -1)).unbind(1)).flatten(1, 2)
        return x + (torch.bmm(h.mT, self.out.weight.T.expand(len(y), -1, -1)) + self.out.bias.to(h.dtype)).view(x.shape)

    @staticmethod
    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The formula above for (B, heads, D, N)."""
        summary = (k.softmax(3) @ v.mT) * q.shape[2] ** -0.5
        return summary.mT @ q.softmax(2)


class SpatialAttention(Attention):
    """Full attention between all places of a frame."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) to the same shape."""
        qkv = self.qkv(self.norm(x).flatten(0, 1).flatten(1, 2)).unflatten(2, (3, self.heads, -1))
        h = attend(*qkv.permute(2, 0, 3, 1, 4)).transpose(1, 2).flatten(2)
        return x + self.out(h).view(x.shape)


def rotate(x: Tensor) -> Tensor:
    """Rotary embedding of x (..., T, D): the pair (d, d + R/2) turns by t 10000^(-2 d / R) for d < R/2, R <= 32.

    A product of two rotated vectors depends on the difference of their times only (Su et al., "RoFormer").
    """
    half = min(ROTATED, x.shape[-1]) // 2
    t = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
    angle = t[:, None] * 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / max(half, 1))
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


def buckets(frames: int, device: torch.device | None = None) -> Tensor:
    """The bucket (T, T) of each distance from a query to a key (Raffel et al., "T5", 2.1).

    Half the buckets are for the past and now, half for the future; in each the first half have one distance, the others
    grow by equal ratios up to FAR.
    """
    t = torch.arange(frames, device=device)
    ahead = t[None] - t[:, None]
    distance, exact = ahead.abs(), BUCKETS // 4
    ratio = (distance.clamp(min=exact).double() / exact).log2() / torch.tensor(FAR / exact).double().log2()
    coarse = (exact + (exact * ratio).long()).clamp(max=2 * exact - 1)
    return torch.where(distance < exact, distance, coarse) + 2 * exact * (ahead > 0)


class TemporalAttention(Attention):
    """Attention between all times of a place, with rotary embedding and a bias by the distance in time.

    All places share the rotation of a time, so the weights turn, not the queries and keys, which are far more.
    """

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, H, W, C) and bias (heads, T, T) to the shape of x."""
        y = self.norm(x.transpose(0, 1).flatten(1, 3))
        qkv = torch.bmm(y, self.turned(len(y))).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 1, 3, 0, 4).contiguous().unbind()  # from (T, B H W, 3, heads, D)
        h = attend(q, k, v, bias)
        h = h.permute(2, 0, 1, 3).flatten(2)
        return x + self.out(h).view(x.transpose(0, 1).shape).transpose(0, 1)

    def turned(self, frames: int) -> Tensor:
        """The weights (T, C, 3 heads D) of queries, keys and values for each time."""
        weight = self.qkv.weight.unflatten(0, (3, self.heads, -1)).permute(0, 1, 3, 2)  # (3, heads, C, D)
        weight = weight[..., None, :].expand(-1, -1, -1, frames, -1)
        return torch.cat([rotate(weight[:2]), weight[2:]]).permute(3, 2, 0, 1, 4).flatten(2)


class Level(nn.Module):
    """Residual blocks, spatial attention and temporal attention at one resolution."""

    def __init__(self, blocks: list[Block], spatial: LinearAttention, temporal: TemporalAttention):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.spatial, self.temporal = spatial, temporal

    def forward(self, x: Tensor, level: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, H, W, C), the embedded noise level (B, E) and the bias in time (heads, T, T)."""
        for block in self.blocks:
            x = block(x, level)
        return self.temporal(self.spatial(x), bias)


class SpaceTimeUNet(nn.Module):
    """Predicts a video of the shape of x from x, a noise-level label and a condition of the same frames and size.

    `width` and `multipliers` give the features per level, `blocks` the residual blocks of a level, `heads` and
    `head_width` the attention, `patch` > 1 works on patch x patch blocks of pixels as channels. `periodic` wraps the
    last axis (longitude) in every convolution, so that the network commutes with rolls by multiples of `stride`.

    The default with one channel and no condition is the published network: 35.7 million parameters. Any number of
    frames and any size: it is continued by its last row and column to multiples of `stride` (repeating them, where
    reflection would need more rows than a small map has) and cut back. A periodic width must be a multiple already.

    Paper: the published network embeds the logarithm of the signal-to-noise ratio; this one what `Denoiser` gives it.
    """

    def __init__(
        self,
        channels: int,
        cond_channels: int,
        *,
        width: int = 64,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
        blocks: int = 2,
        heads: int = 8,
        head_width: int = 32,
        patch: int = 1,
        periodic: bool = False,
    ):
        super().__init__()
        if width % GROUPS:
            raise BadInput(f"width must be a multiple of {GROUPS}, the groups of its normalisation, got {width}")
        self.channels, self.cond_channels, self.width = channels, cond_channels, width
        self.patch, self.periodic = patch, periodic
        self.stride = patch * 2 ** (len(multipliers) - 1)
        embedding, area = 4 * width, patch * patch
        sizes = [width, *(width * m for m in multipliers)]

        def level(inputs: int, outputs: int) -> Level:
            chain = [Block(inputs if i == 0 else outputs, outputs, embedding, periodic) for i in range(blocks)]
            return Level(chain, LinearAttention(outputs, heads, head_width), temporal(outputs))

        def temporal(features: int) -> TemporalAttention:
            return TemporalAttention(features, heads, head_width)

        self.embedding = NoiseLevel(width, embedding)
        self.bias = nn.Parameter(torch.zeros(BUCKETS, heads))
        self.stem = same((channels + cond_channels) * area, width, 7, periodic)
        self.stem_temporal = temporal(width)
        steps = list(pairwise(sizes))
        self.down = nn.ModuleList(level(i, o) for i, o in steps)
        self.shrink = nn.ModuleList(down(o, periodic) for o in sizes[1:-1])
        last = sizes[-1]
        self.before = Block(last, last, embedding, periodic)
        self.spatial, self.temporal = SpatialAttention(last, heads, head_width), temporal(last)
        self.after = Block(last, last, embedding, periodic)
        self.up = nn.ModuleList(level(2 * o, i) for i, o in reversed(steps))
        self.grow = nn.ModuleList(up(i, periodic) for i in reversed(sizes[1:-1]))
        self.final = Block(2 * width, width, 0, periodic)
        self.head = linear(width, channels * area)
        variance_scaling(self.head.weight, 0.0)

    def forward(self, x: Tensor, level: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, T, C, H, W), level (B,) in [0, 1000], cond (B, T, K, H, W) or None; returns the shape of x."""
        h = self._enter(self._input(x, cond))
        bias = self.bias[buckets(x.shape[1], x.device)].permute(2, 0, 1)
        level = self.embedding(level, x.dtype)
        h = stem = self.stem_temporal(self.stem(h), bias)
        skips = []
        for i, stage in enumerate(self.down):
            h = stage(self.shrink[i - 1](h) if i else h, level, bias)
            skips.append(h)
        h = self.temporal(self.spatial(self.before(h, level)), bias)
        h = self.after(h, level)
        for i, stage in enumerate(self.up):
            h = stage(torch.cat([self.grow[i - 1](h) if i else h, skips.pop()], 4), level, bias)
        return self._leave(self.head(self.final(torch.cat([h, stem], 4), level)), x.shape)

    def _input(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """x and its condition as channels, checked."""
        if x.ndim != 5 or x.shape[2] != self.channels or 0 in x.shape:
            raise BadInput(f"this network takes videos (B, T, {self.channels}, H, W), got shape {tuple(x.shape)}")
        B, T, _, H, W = x.shape
        if self.periodic and W % self.stride:
            raise BadInput(
                f"a periodic network of this depth takes widths that are multiples of {self.stride}, got {W}: regrid, "
                f"or choose fewer levels or a smaller patch"
            )
        if not self.cond_channels:
            return x
        expected = (B, T, self.cond_channels, H, W)
        if cond is None or cond.shape != expected:
            given = "none" if cond is None else f"shape {tuple(cond.shape)}"
            raise BadInput(f"this network needs a condition of shape {expected}, got {given}")
        return torch.cat([x, cond.to(x.dtype)], 2)

    def _enter(self, x: Tensor) -> Tensor:
        """(B, T, C, H, W) as patches (B, T, H', W', C patch^2), continued at the lower and right border."""
        h = continued(x, self.stride).flatten(0, 1)
        return F.pixel_unshuffle(h, self.patch).permute(0, 2, 3, 1).contiguous().unflatten(0, x.shape[:2])

    def _leave(self, h: Tensor, shape: torch.Size) -> Tensor:
        """The way back: pixels of the size that came in."""
        h = F.pixel_shuffle(h.flatten(0, 1).permute(0, 3, 1, 2), self.patch)
        return h[..., : shape[3], : shape[4]].reshape(shape)
