"""Transformers: pre-norm residual blocks of attention and a feed-forward layer, over sequences (B, N, width).

      x <- x + attention(norm(x)),   x <- x + forward(norm(x))

There are two kinds. `plain_block` is that of GPT: dot products of queries and keys, biases everywhere, x s(1.702 x).
`cosine_block` is Phenaki's: queries and keys of unit length times learned scales, so that scores are bounded; a gated
feed-forward layer; no biases. Where a position is, is said from outside: added to x, added to the scores (a bias), or
by `Near`, a convolution over the grid that the sequence is laid out from.
"""

import math
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import attend, check_dropout

SHARPNESS = 8.0  # scores of cosine attention lie between minus and plus this, before the learned scales


class Memory:
    """Keys and values that one attention layer has seen, with room for `positions`."""

    def __init__(self, positions: int):
        self.positions, self.filled = positions, 0
        self._held: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Appends (B, heads, n, D) each; gives all so far."""
        end = self.filled + keys.shape[2]
        if end > self.positions:
            raise BadInput(f"there is room for {self.positions} positions, got {end}; make a larger memory")
        if self._held is None:
            self._held = keys.new_empty(2, *keys.shape[:2], self.positions, keys.shape[3])
        self._held[0, :, :, self.filled : end], self._held[1, :, :, self.filled : end] = keys, values
        self.filled = end
        return self._held[0, :, :, :end], self._held[1, :, :, :end]


class Attention(nn.Module):
    """Attention between the positions of a sequence."""

    def __init__(self, width: int, heads: int, head_width: int, *, bias: bool = True):
        super().__init__()
        if min(width, heads, head_width) < 1:
            raise BadInput(f"attention of width {width} with {heads} heads of {head_width}; give positive numbers")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=bias)
        self.out = nn.Linear(heads * head_width, width, bias=bias)
        for layer in (self.qkv, self.out):
            start(layer)

    def forward(
        self, x: Tensor, bias: Tensor | None = None, *, causal: bool = False, memory: Memory | None = None
    ) -> Tensor:
        """x (B, N, width) to the same shape; `bias` (heads or 1, N, all) is added to the scores.

        `causal`: position n sees 0..n. With a `memory`, x follows what is in it, sees it, and is added to it.
        """
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        q, k = self.tuned(q, k)
        if memory is not None:
            k, v = memory.extend(k, v)
            if causal and x.shape[1] > 1:
                later = memory.filled - x.shape[1]
                bias, causal = ahead(memory.filled, x.device)[:, later:] + (0 if bias is None else bias), False
        if causal and memory is None and bias is None:
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            h = attend(q, k, v, bias)
        return self.out(h.transpose(1, 2).flatten(2))

    def tuned(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, heads, N, D) as they are compared, by q k' / sqrt(D)."""
        return q, k


class CosineAttention(Attention):
    """Attention by the angle between queries and keys: their scores are SHARPNESS cos, times learned scales."""

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__(width, heads, head_width, bias=False)
        self.scales = nn.Parameter(torch.ones(2, head_width))

    def tuned(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Attention`."""
        sharp = SHARPNESS * math.sqrt(q.shape[3])  # `attend` divides by the root
        scale = (self.scales[0] * self.scales[1] * sharp).to(q.dtype)  # both multiply the same products
        return F.normalize(q, dim=3) * scale, F.normalize(k, dim=3)


class Gated(nn.Module):
    """A feed-forward layer whose one half gates the other: a gelu(b); as many weights as a plain one of 4 widths."""

    def __init__(self, width: int):
        super().__init__()
        inner = 4 * width * 2 // 3
        self.enter, self.leave = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        for layer in (self.enter, self.leave):
            start(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        value, gate = self.enter(x).chunk(2, -1)
        return self.leave(F.gelu(gate) * value)


class Plain(nn.Module):
    """The feed-forward layer of GPT: h s(1.702 h) on 4 widths."""

    def __init__(self, width: int):
        super().__init__()
        self.enter, self.leave = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for layer in (self.enter, self.leave):
            start(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        h = self.enter(x)
        return self.leave(h * (1.702 * h).sigmoid())


class Norm(nn.Module):
    """Every vector with mean 0 and variance 1 over its numbers, times a learned gain, without shift."""

    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        return F.layer_norm(x, self.gain.shape, self.gain)


class Block(nn.Module):
    """One layer of a transformer; `dropout` sets numbers of what is added to x to zero."""

    def __init__(self, attention: Attention, forward: nn.Module, norms: tuple[nn.Module, nn.Module], dropout: float):
        super().__init__()
        self.attention, self.feed = attention, forward
        self.norms = nn.ModuleList(norms)
        self.dropout = nn.Dropout(check_dropout(dropout))

    def forward(
        self, x: Tensor, bias: Tensor | None = None, *, causal: bool = False, memory: Memory | None = None
    ) -> Tensor:
        """x (B, N, width) to the same shape; the rest as in `Attention`."""
        x = x + self.dropout(self.attention(self.norms[0](x), bias, causal=causal, memory=memory))
        return x + self.dropout(self.feed(self.norms[1](x)))


def plain_block(width: int, heads: int, *, dropout: float = 0.0) -> Block:
    """A layer of GPT; BadInput unless `heads` divide `width`."""
    if heads < 1 or width % heads:
        raise BadInput(f"a width of {width} cannot be shared by {heads} heads; make one a multiple of the other")
    norms = nn.LayerNorm(width), nn.LayerNorm(width)
    return Block(Attention(width, heads, width // heads), Plain(width), norms, dropout)


def cosine_block(width: int, heads: int, head_width: int) -> Block:
    """A layer of Phenaki."""
    return Block(CosineAttention(width, heads, head_width), Gated(width), (Norm(width), Norm(width)), 0.0)


def start(layer: nn.Linear) -> None:
    """Weights that keep the variance, bias zero."""
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def ahead(positions: int, device: torch.device | None = None) -> Tensor:
    """The bias (1, N, N) that hides what comes later."""
    hidden = torch.full((positions, positions), -math.inf, device=device)
    return hidden.triu(1)[None]


def fading(positions: int, heads: int, device: torch.device | None = None) -> Tensor:
    """ALiBi (Press et al. 2022): minus the distance, times 2^(-8 i / heads) in head i = 1..heads: (heads, N, N)."""
    n = torch.arange(positions, device=device)
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=device) / heads)
    return -(n[:, None] - n).abs() * slopes[:, None, None]


class OffsetBias(nn.Module):
    """A bias by the offset between two places of a grid, made by a small network (Liu et al. 2022, "Swin V2").

    It sees sign(d) log(1 + |d|) along every axis, so it says something for grids of any size.
    """

    def __init__(self, axes: int, heads: int, hidden: int):
        super().__init__()
        widths = (axes, hidden, hidden, heads)
        self.layers = nn.ModuleList([nn.Linear(i, o) for i, o in pairwise(widths)])

    def forward(self, *sides: int) -> Tensor:
        """The bias (heads, N, N) between the N places of a grid of `sides`, in raster order."""
        weight = self.layers[0].get_parameter("weight")
        axes = [torch.arange(1 - n, n, device=weight.device, dtype=weight.dtype) for n in sides]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
        h = offsets.sign() * offsets.abs().log1p()
        for layer in self.layers[:-1]:
            h = F.leaky_relu(layer(h), 0.1)
        return self.layers[-1](h).T[:, _pairs(sides).to(weight.device)]


@lru_cache(maxsize=8)
def _pairs(sides: tuple[int, ...]) -> Tensor:
    """Which of the offsets lies between every two places, (N, N)."""
    with torch.inference_mode(False):  # what is kept from there could never be used in training
        places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in sides), indexing="ij"), -1).flatten(0, -2)
        steps = places[:, None] - places[None]
        index = torch.zeros(steps.shape[:2], dtype=torch.int64)
        for axis, n in enumerate(sides):
            index = index * (2 * n - 1) + steps[..., axis] + n - 1
        return index


class Near(nn.Module):
    """What is around every place of a grid (B, T, H, W, width): a 3x3x3 convolution of each channel by itself.

    If `causal`, it looks at this frame and the two before. The borders are zero, so it tells where they are.
    """

    def __init__(self, width: int, *, causal: bool):
        super().__init__()
        self.causal = causal
        self.weight = nn.Parameter(torch.empty(3, 3, 3, width).uniform_(-(27**-0.5), 27**-0.5))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape. Three convolutions of frames: torch's one of clips takes six times as long on CPUs."""
        B, T = x.shape[:2]
        padded = F.pad(x, (0, 0, 0, 0, 0, 0, *((2, 0) if self.causal else (1, 1)))).permute(0, 1, 4, 2, 3)
        weight = self.weight.to(x.dtype).permute(3, 0, 1, 2)[:, None]
        parts = [
            F.conv2d(padded[:, a : a + T].flatten(0, 1), weight[:, :, a], padding=1, groups=len(weight))
            for a in range(3)
        ]
        total = (parts[0] + parts[1] + parts[2]).permute(0, 2, 3, 1) + self.bias.to(x.dtype)
        return total.unflatten(0, (B, T))
