"""The U-Net of DDPM (Ho et al. 2020, appendix B), which the thesis' images of chapter 6 are most likely drawn with.

                 x -> stem -> [blocks (+ attention), down] x levels -> middle -> [blocks (+ attention), up] -> head
                                  skip connections from every output on the way down

With width 128, multipliers (1, 2, 2, 2), 2 blocks and attention at 16x16 it has the 35,746,307 parameters of their
model of CIFAR-10.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import Attention, Dropout, GroupNorm, conv, embed, linear, variance_scaling


class Block(nn.Module):
    """Two convolutions around a shortcut; the noise level is added between them."""

    def __init__(self, inputs: int, outputs: int, *, embedding: int, dropout: float):
        super().__init__()
        self.norm_0 = GroupNorm(inputs)
        self.conv_0 = conv(inputs, outputs)
        self.level = linear(embedding, outputs)
        self.norm_1 = GroupNorm(outputs)
        self.dropout = Dropout(dropout)
        self.conv_1 = conv(outputs, outputs, scale=0.0)
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x (B, inputs, H, W) to (B, outputs, H, W)."""
        h = self.conv_0(F.silu(self.norm_0(x))) + self.level(level)[:, :, None, None]
        return self.shortcut(x) + self.conv_1(self.dropout(F.silu(self.norm_1(h))))


class Stage(nn.Module):
    """A block and, where the level has it, attention of one head.

    Paper: their attention adds its answer to x; the layer that is shared with MCVD halves the variance of the sum.
    """

    def __init__(self, block: Block, attention: Attention | None):
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Feature maps in, feature maps out."""
        x = self.block(x, level)
        return x if self.attention is None else self.attention(x)


class Down(nn.Module):
    """Half the size by a convolution with stride 2."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.Conv2d(features, features, 3, stride=2, padding=1)
        variance_scaling(self.conv.weight)
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / 2, W / 2)."""
        return self.conv(x)


class Up(nn.Module):
    """Twice the size: every pixel four times, then a convolution."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = conv(features, features)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class DDPMUNet(nn.Module):
    """Predicts a tensor (B, answers, H, W) from x (B, channels, H, W) and a noise-level label.

    `answers` are as many as `channels` by default, and the attention has one head, or as many as `head_width` goes into
    the features: with 12 channels, 4 answers, multipliers (1, 2, 2, 4), attention at all levels but the first and heads
    of 8 it is `diffusers`' UNet2DModel as seed 004 has it, 75,381,252 parameters.
    `width` and `multipliers` give the feature widths per level, `blocks` how many on the way down (one more on the way
    up), `attention` the levels that have it (the middle always does). `patch` > 1 works on patch x patch blocks of
    pixels as channels. Height and width must be multiples of `stride`; anything else is refused with a `BadInput`.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[bool] = (False, True, False, False),
        dropout: float = 0.1,
        patch: int = 1,
        answers: int = 0,
        head_width: int = 0,
    ):
        super().__init__()
        if len(attention) != len(multipliers):
            raise BadInput(f"attention needs one entry per level ({len(multipliers)}), got {len(attention)}")
        self.width, self.patch = width, patch
        self.stride = patch * 2 ** (len(multipliers) - 1)
        embedding = 4 * width

        def stage(inputs: int, outputs: int, attends: bool) -> Stage:
            block = Block(inputs, outputs, embedding=embedding, dropout=dropout)
            return Stage(block, Attention(outputs, head_width or outputs) if attends else None)

        self.embedding = nn.ModuleList([linear(width, embedding), linear(embedding, embedding)])
        self.stem = conv(channels * patch**2, width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        features, skips = width, [width]
        levels = list(zip([width * m for m in multipliers], attention, strict=True))
        for i, (outputs, here) in enumerate(levels):
            for _ in range(blocks):
                self.down.append(stage(features, outputs, here))
                features = outputs
                skips.append(features)
            if i < len(levels) - 1:
                self.down.append(Down(features))
                skips.append(features)
        self.middle = nn.ModuleList([stage(features, features, True), stage(features, features, False)])
        for i, (outputs, here) in reversed(list(enumerate(levels))):
            for _ in range(blocks + 1):
                self.up.append(stage(features + skips.pop(), outputs, here))
                features = outputs
            if i > 0:
                self.up.append(Up(features))
        self.norm = GroupNorm(features)
        self.head = conv(features, (answers or channels) * patch**2, scale=0.0)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), label (B,) in [0, 1000], to (B, answers, H, W). There is no condition: `cond` is None."""
        H, W = x.shape[-2:]
        if H % self.stride or W % self.stride or 0 in (H, W):
            raise BadInput(f"this network takes heights and widths that are multiples of {self.stride}, got {H}x{W}")
        level = self.embedding[1](F.silu(self.embedding[0](embed(label, self.width).to(x.dtype))))
        level = F.silu(level)
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        skips = [h]
        for part in self.down:
            h = part(h, level)
            skips.append(h)
        for part in self.middle:
            h = part(h, level)
        for part in self.up:
            h = part(torch.cat([h, skips.pop()], 1) if isinstance(part, Stage) else h, level)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
