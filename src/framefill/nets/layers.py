"""The layers of the MCVD U-Net (thesis 001, section 7.2.4; facts, section 1.2).

Every layer takes feature maps (B, C, H, W). Residual sums are divided by sqrt(2) so that variance is kept; the last
layer of every residual branch starts at (nearly) zero, so that a fresh network is nearly the identity.

Four operations are written out because torch's own are slow on CPUs in bfloat16 and channels-last order: resampling,
normalisation, dropout and attention. `benchmarks/network.py` measures the network against plain versions of them.
"""

import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from framefill.errors import BadInput

Layer = TypeVar("Layer", bound=nn.Module)


def check_size(x: Tensor, stride: int) -> None:
    """BadInput unless x (..., H, W) has a height and width that are multiples of `stride`."""
    H, W = x.shape[-2:]
    check_sides(H, W, stride)


def check_sides(H: int, W: int, stride: int) -> None:
    """BadInput unless both are multiples of `stride`."""
    if H % stride or W % stride or 0 in (H, W):
        raise BadInput(f"this network takes heights and widths that are multiples of {stride}, got {H}x{W}")


def check_dropout(p: float) -> float:
    """The same; BadInput unless it is a share of numbers that may be set to zero."""
    if not 0 <= p <= 1:
        raise BadInput(f"dropout {p} is no share of the numbers; give one in [0, 1]")
    return p


def norm_groups(channels: int) -> int:
    """Groups of a GroupNorm: the largest divisor of `channels` that is at most min(channels // 4, 32)."""
    return next(g for g in range(max(min(channels // 4, 32), 1), 0, -1) if channels % g == 0)


def variance_scaling(weight: Tensor, scale: float = 1.0) -> None:
    """DDPM's initialisation: uniform with variance scale / mean(fan in, fan out); scale 0 becomes 1e-10."""
    fan_in = weight[0].numel()
    fan_out = weight.shape[0] * weight[0][0].numel()
    bound = math.sqrt(3 * max(scale, 1e-10) / ((fan_in + fan_out) / 2))
    nn.init.uniform_(weight, -bound, bound)


def fresh(layer: Layer, scale: float = 1.0) -> Layer:
    """The layer with DDPM initialisation and zero bias."""
    variance_scaling(layer.get_parameter("weight"), scale)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def conv(inputs: int, outputs: int, size: int = 3, *, scale: float = 1.0, stride: int = 1) -> nn.Conv2d:
    """A convolution of the same size, or `stride` times smaller, with DDPM initialisation and zero bias."""
    return fresh(nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2), scale)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A dense layer with DDPM initialisation and zero bias."""
    return fresh(nn.Linear(inputs, outputs))


def embed(label: Tensor, size: int) -> Tensor:
    """Sinusoids of numbers (B,) in [0, 1000] as (B, size): sines first, then cosines, frequencies 10000^(-d / (D - 1)).
    Of an odd size the last one is 0.

    Paper: eq. 7.2.9 interleaves them and takes t in [0, 1]; the published program does this (facts, section 1.2).
    """
    half = size // 2
    steps = torch.arange(half, dtype=torch.float32, device=label.device)
    angle = label.float()[:, None] * torch.exp(steps * (-math.log(10000) / (half - 1)))
    return F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, size % 2))


class NoiseLevel(nn.ModuleList):
    """Noise-level labels as activated features: sinusoids and two dense layers."""

    def __init__(self, width: int, features: int):
        super().__init__([linear(width, features), linear(features, features)])
        self.width = width

    def forward(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """Labels (B,) in [0, 1000] to (B, features)."""
        h = embed(label, self.width).to(dtype)
        for layer in self:
            h = F.silu(layer(h))
        return h


def _halve(x: Tensor, axis: int) -> Tensor:
    pair = x.unflatten(axis, (-1, 2))
    even, odd = pair.select(axis + 1, 0), pair.select(axis + 1, 1)
    n = even.shape[axis] - 1
    zero = torch.zeros_like(even.narrow(axis, 0, 1))
    before = torch.cat([zero, odd.narrow(axis, 0, n)], axis)
    after = torch.cat([even.narrow(axis, 1, n), zero], axis)
    return torch.lerp((before + after) / 2, (even + odd) / 2, 0.75)


def _double(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis] - 1
    zero = torch.zeros_like(x.narrow(axis, 0, 1))
    before = torch.cat([zero, x.narrow(axis, 0, n)], axis)
    after = torch.cat([x.narrow(axis, 1, n), zero], axis)
    return torch.stack([torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)], axis + 1).flatten(axis, axis + 1)


def downsample(x: Tensor) -> Tensor:
    """Half the size, filtered by [1, 3, 3, 1] / 8 along both axes, zero-padded."""
    return _halve(_halve(x.permute(0, 2, 3, 1), 1), 2).permute(0, 3, 1, 2)


def upsample(x: Tensor) -> Tensor:
    """Twice the size: the transpose of `downsample`, times 4 so that a constant stays constant inside.

    Both are written as sums of slices in channels-last order: a depthwise convolution in bf16 is ten times slower.
    """
    return _double(_double(x.permute(0, 2, 3, 1), 1), 2).permute(0, 3, 1, 2)


def normalise(x: Tensor, groups: int, eps: float) -> Tensor:
    """Group normalisation: x (B, C, H, W) with mean 0 and variance 1 in each sample and group of channels."""
    return _Normalise.apply(x, groups, eps) if x.device.type == "cpu" else F.group_norm(x, groups, eps=eps)


class _Normalise(torch.autograd.Function):
    """y = (x - mean) r in each sample and group; dx = r (g - <g> - y <g y>), where < > is the mean over the group.

    Torch's own gradient goes through channels-last memory one number at a time, which takes 3 to 5 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, eps: float) -> Tensor:
        B, C, H, W = x.shape
        # so does its forward pass on small maps in bfloat16: a copy, a channels-first pass and a copy back are faster
        slow = x.dtype == torch.bfloat16 and H * W < 1024
        source = x.contiguous() if slow else x.contiguous(memory_format=torch.channels_last)
        y, _, r = torch.native_group_norm(source, None, None, B, C, H * W, groups, eps)
        y = y.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        y, r = ctx.saved_tensors
        (B, C), (_, groups) = y.shape[:2], r.shape

        def mean(v: Tensor) -> Tensor:
            return v.sum((2, 3)).reshape(B, groups, -1).sum(2) / (y[0].numel() // groups)

        def spread(v: Tensor) -> Tensor:
            return v.to(g.dtype).repeat_interleave(C // groups, 1)[:, :, None, None]

        centred = torch.addcmul(spread(-r * mean(g)), g, spread(r))
        return centred.addcmul_(y, spread(-r * mean(g * y))), None, None


class GroupNorm(nn.Module):
    """Group normalisation with a learned scale and shift per channel."""

    def __init__(self, channels: int, *, eps: float = 1e-5):
        super().__init__()
        self.groups, self.eps = norm_groups(channels), eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the same shape."""
        h = normalise(x, self.groups, self.eps)
        return torch.addcmul(self.bias.to(h.dtype)[:, None, None], h, self.weight.to(h.dtype)[:, None, None])


class SpatialNorm(nn.Module):
    """SPATIN: group normalisation whose scale and shift are maps computed from the condition (SPADE for frames)."""

    def __init__(self, channels: int, cond_channels: int, hidden: int):
        super().__init__()
        self.groups = norm_groups(channels)
        self.shared = conv(cond_channels, hidden)
        self.gamma = conv(hidden, channels)
        self.beta = conv(hidden, channels)

    def forward(self, h: Tensor, cond: Tensor) -> Tensor:
        """Normalised h (B, C, H, W), modulated by `cond` (B, K, *, *), which is resized to (H, W)."""
        features = F.silu(self.shared(F.interpolate(cond, h.shape[-2:], mode="nearest")))
        return torch.addcmul(self.beta(features), normalise(h, self.groups, 1e-6), 1 + self.gamma(features))


class LevelNorm(nn.Module):
    """Group normalisation, scaled and shifted by the noise-level embedding, then SiLU."""

    def __init__(self, channels: int, embedding: int, cond_channels: int, spatin: int):
        super().__init__()
        self.groups = norm_groups(channels)
        self.level = linear(embedding, 2 * channels)
        self.spatial = SpatialNorm(channels, cond_channels, spatin) if spatin else None

    def forward(self, h: Tensor, level: Tensor, cond: Tensor | None) -> Tensor:
        """silu(norm(h) * (1 + scale) + shift), (scale, shift) from `level` (B, E), which is already activated."""
        scale, shift = self.level(level)[:, :, None, None].chunk(2, 1)
        if self.spatial is None:
            h = normalise(h, self.groups, 1e-5)
        else:
            assert cond is not None
            h = self.spatial(h, cond)
        return F.silu(torch.addcmul(shift, h, 1 + scale))


class Dropout(nn.Module):
    """Sets every number to zero with probability p (to within 2^-17) and divides the others by 1 - p.

    On a CPU, 64 random bits decide four numbers, which takes a third of the time of `nn.Dropout`.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = check_dropout(p)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, H, W) to the same shape; in evaluation h itself."""
        zeros = round(self.p * 2**16)
        if not self.training or h.device.type != "cpu" or zeros in (0, 2**16):
            return F.dropout(h, self.p, self.training)
        words = torch.randint(-(2**63), 2**63 - 1, (math.ceil(h.numel() / 4),))
        last = zeros - 2**15 - 1  # of the 2^16 values of a quarter word, -2^15 to `last` mean zero
        keep = words.view(torch.int16)[: h.numel()].clamp_(last, last + 1).sub_(last)
        mask = keep.to(h.dtype).mul_(2**16 / (2**16 - zeros))
        return h * mask.view_as(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Two convolutions around a shortcut, optionally changing the size; (x + h) / sqrt(2)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        cond_channels: int,
        spatin: int,
        dropout: float,
        resize: int = 0,
    ):
        super().__init__()
        self.resize = {-1: downsample, 0: lambda x: x, 1: upsample}[resize]
        self.norm_0 = LevelNorm(inputs, embedding, cond_channels, spatin)
        self.conv_0 = conv(inputs, outputs)
        self.norm_1 = LevelNorm(outputs, embedding, cond_channels, spatin)
        self.dropout = Dropout(dropout)
        self.conv_1 = conv(outputs, outputs, scale=0.0)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs or resize else nn.Identity()

    def forward(self, x: Tensor, level: Tensor, cond: Tensor | None) -> Tensor:
        """x (B, inputs, H, W) to (B, outputs, H', W')."""
        h = self.conv_0(self.resize(self.norm_0(x, level, cond)))
        h = self.conv_1(self.dropout(self.norm_1(h, level, cond)))
        return (self.shortcut(self.resize(x)) + h) * 0.5**0.5


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(D) + bias) v for queries, keys and values (B, heads, N, D); bias (heads, N, N) or none.

    In bfloat16 on a CPU, matrix products take two thirds of the time of torch's fused attention as long as the scores
    stay in the cache, so they go 2^20 at a time. Training keeps them all: 2 bytes per pair of positions and head.
    A bias is for many short sequences, where torch's softmax takes ten times as long as the exponentials in it.
    """
    if bias is not None and q.device.type == "cpu":
        scores = torch.add(bias.to(q.dtype), q @ k.mT, alpha=q.shape[3] ** -0.5)
        shares = (scores - scores.detach().amax(3, keepdim=True)).exp()
        return (shares / shares.sum(3, keepdim=True)) @ v
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias[None].to(q.dtype))
    heads = (x.flatten(0, 1).split(max(2**20 // q.shape[2] ** 2, 1)) for x in (q * q.shape[3] ** -0.5, k, v))
    return torch.cat([(q @ k.mT).softmax(2) @ v for q, k, v in zip(*heads, strict=True)]).view(q.shape)


class Attention(nn.Module):
    """Self-attention over all positions of a feature map; (x + h) / sqrt(2)."""

    def __init__(self, channels: int, head_width: int):
        super().__init__()
        self.heads = max(channels // head_width, 1)
        self.norm = GroupNorm(channels, eps=1e-6)
        self.qkv = conv(channels, 3 * channels, 1)
        for part in self.qkv.weight.data.chunk(3):
            variance_scaling(part, 0.1)
        self.out = conv(channels, channels, 1, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the same shape."""
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(B, H * W, 3, self.heads, -1)
        h = attend(*qkv.permute(2, 0, 3, 1, 4)).transpose(1, 2).reshape(B, H, W, C).permute(0, 3, 1, 2)
        return (x + self.out(h)) * 0.5**0.5


class Stage(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, block: nn.Module, attention: Attention | None = None):
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, *given: Tensor | None) -> Tensor:
        """Feature maps in, feature maps out; the block sees the rest."""
        x = self.block(x, *given)
        return x if self.attention is None else self.attention(x)


class Double(nn.Module):
    """Twice the size: every pixel four times, then a convolution."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
