"""The encoder and decoder of VQGAN (Esser et al. 2021, table 7), which latent diffusion kept.

      x -> stem -> [blocks (+ attention), halve] x levels -> block, attention, block -> norm, SiLU, head -> z
      z -> stem -> block, attention, block -> [blocks (+ attention), double] x levels -> norm, SiLU, head -> x

Nothing leads past the latent: there are no skip connections, so what the decoder shows came through z. The modules
mirror the published programs one to one, with names of our own, so that published weights fit (latents/published.py).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import Double, GroupNorm, attend, check_size, conv, fresh

EPSILON = 1e-6
GROUPS = 32


def norm(channels: int, groups: int = GROUPS) -> GroupNorm:
    """Group normalisation in `groups` groups, or as many as divide both numbers."""
    layer = GroupNorm(channels, eps=EPSILON)
    layer.groups = math.gcd(groups, channels)
    return layer


class Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, groups: int):
        super().__init__()
        self.norm_0, self.conv_0 = norm(inputs, groups), conv(inputs, outputs)
        self.norm_1, self.conv_1 = norm(outputs, groups), conv(outputs, outputs, scale=0.0)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, H, W) to (B, outputs, H, W)."""
        h = self.conv_0(F.silu(self.norm_0(x)))
        return self.shortcut(x) + self.conv_1(F.silu(self.norm_1(h)))


class Attention(nn.Module):
    """Self-attention with one head over all positions, added to the input."""

    def __init__(self, channels: int, *, groups: int):
        super().__init__()
        self.norm = norm(channels, groups)
        self.query, self.key, self.value = (conv(channels, channels, 1) for _ in range(3))
        self.out = conv(channels, channels, 1, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to the same shape."""
        h = self.norm(x)
        q, k, v = (part(h).flatten(2).mT[:, None] for part in (self.query, self.key, self.value))
        return x + self.out(attend(q, k, v)[:, 0].mT.unflatten(2, x.shape[2:]).contiguous())


class Halve(nn.Module):
    """Half the size by a convolution with stride 2, padded below and on the right only."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = fresh(nn.Conv2d(features, features, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / 2, W / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Blocks of one size, attention after each where the level has it, and the way to the next size, if any."""

    def __init__(self, widths: Sequence[int], resize: nn.Module | None, *, attends: bool, groups: int):
        super().__init__()
        pairs = list(pairwise(widths))
        self.blocks = nn.ModuleList([Block(i, o, groups=groups) for i, o in pairs])
        self.attention = nn.ModuleList([Attention(o, groups=groups) for _, o in pairs if attends])
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps in, feature maps out."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            x = self.attention[i](x) if len(self.attention) else x
        return x if self.resize is None else self.resize(x)


def middle(features: int, *, groups: int) -> nn.Sequential:
    """Block, attention, block."""
    return nn.Sequential(
        Block(features, features, groups=groups), Attention(features, groups=groups),
        Block(features, features, groups=groups),
    )  # fmt: skip


def _check(multipliers: Sequence[int], attention: Sequence[bool], sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise BadInput(f"{name} must be 1 or more, got {size}")
    if not multipliers or min(multipliers) < 1 or len(attention) != len(multipliers):
        raise BadInput(
            f"multipliers {tuple(multipliers)} with attention {tuple(attention)}; give one positive number and one "
            "true or false for every level"
        )


class Ladder(nn.Module, ABC):
    """What `Encoder` and `Decoder` share: a stem, levels and a middle in one order or the other, a head.

    `width` and `multipliers` give the features per level, `blocks` how many, `attention` the levels that have it (the
    middle always does), `groups` those of the normalisation. BadInput for an impossible layout.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        blocks: int = 2,
        attention: Sequence[bool] = (False, False, False, True),
        groups: int = GROUPS,
    ):
        super().__init__()
        sizes = {"inputs": inputs, "outputs": outputs, "width": width, "blocks": blocks, "groups": groups}
        _check(multipliers, attention, sizes)
        self.stride, self.groups = 2 ** (len(multipliers) - 1), groups
        last = self._build(inputs, [width, *(width * m for m in multipliers)], attention, blocks)
        self.norm, self.head = norm(last, groups), conv(last, outputs)

    @abstractmethod
    def _build(self, inputs: int, widths: list[int], attention: Sequence[bool], blocks: int) -> int:
        """Stem, levels and middle as they are passed; gives the features that leave. `widths` begin with the stem's."""

    def _levels(
        self, widths: list[int], attention: Sequence[bool], blocks: int, resize: Callable[[int], nn.Module]
    ) -> nn.ModuleList:
        """All levels; each but the last ends with a change of size."""
        made = nn.ModuleList()
        for (before, features), attends in zip(pairwise(widths), attention, strict=True):
            way = resize(features) if len(made) < len(attention) - 1 else None
            made.append(Level([before] + [features] * blocks, way, attends=attends, groups=self.groups))
        return made


class Encoder(Ladder):
    """Pictures (B, inputs, H, W) to maps (B, outputs, H / stride, W / stride), stride = 2^(levels - 1)."""

    def _build(self, inputs: int, widths: list[int], attention: Sequence[bool], blocks: int) -> int:
        self.stem = conv(inputs, widths[0])
        self.levels = self._levels(widths, attention, blocks, Halve)
        self.middle = middle(widths[-1], groups=self.groups)
        return widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, H, W); H and W must be multiples of `stride` (BadInput)."""
        check_size(x, self.stride)
        h = self.stem(x)
        for level in self.levels:
            h = level(h)
        return self.head(F.silu(self.norm(self.middle(h))))


class Decoder(Ladder):
    """The way back, maps (B, inputs, h, w) to pictures (B, outputs, stride h, stride w); one more block per level.

    Its levels are listed as they are passed, smallest first; `multipliers` and `attention` as in `Encoder`.
    """

    def _build(self, inputs: int, widths: list[int], attention: Sequence[bool], blocks: int) -> int:
        first, *rest = widths[:0:-1]
        self.stem = conv(inputs, first)
        self.middle = middle(first, groups=self.groups)
        self.levels = self._levels([first, first, *rest], attention[::-1], blocks + 1, Double)
        return widths[1]

    def forward(self, z: Tensor) -> Tensor:
        """z (B, inputs, h, w) of any size."""
        h = self.middle(self.stem(z))
        for level in self.levels:
            h = level(h)
        return self.head(F.silu(self.norm(h)))
