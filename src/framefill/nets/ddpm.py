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
from framefill.nets.layers import Attention, Double, Dropout, GroupNorm, NoiseLevel, Stage, check_size, conv, linear


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


class Down(nn.Module):
    """Half the size by a convolution with stride 2."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = conv(features, features, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / 2, W / 2)."""
        return self.conv(x)


class DDPMUNet(nn.Module):
    """Predicts a tensor (B, answers, H, W) from x (B, channels, H, W) and a noise-level label.

    `answers` are as many as `channels` by default, and the attention has one head, or as many as `head_width` goes into
    the features: with 12 channels, 4 answers, multipliers (1, 2, 2, 4), attention at all levels but the first and heads
    of 8 it is `diffusers`' UNet2DModel as seed 004 has it, 75,381,252 parameters.
    `width` and `multipliers` give the feature widths per level, `blocks` how many on the way down (one more on the way
    up), `attention` the levels that have it (the middle always does). `patch` > 1 works on patch x patch blocks of
    pixels as channels. With `classes` it is told one of them, or none. Height and width must be multiples of `stride`;
    anything else is refused with a `BadInput`.

    Paper: their attention adds its answer to x; the layer that is shared with MCVD halves the variance of the sum.
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
        classes: int = 0,
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

        self.embedding = NoiseLevel(width, embedding)
        self.named = nn.Embedding(classes + 1, embedding) if classes else None
        if self.named is not None:
            nn.init.zeros_(self.named.weight)
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
                self.up.append(Double(features))
        self.norm = GroupNorm(features)
        self.head = conv(features, (answers or channels) * patch**2, scale=0.0)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), label (B,) in [0, 1000], to (B, answers, H, W). `cond`: classes (B,), `classes` for none."""
        check_size(x, self.stride)
        level = self.embedding(label, x.dtype)
        if self.named is not None and cond is not None:
            level = level + self.named(cond).to(x.dtype)
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        skips = [h]
        for part in self.down:
            h = part(h, level) if isinstance(part, Stage) else part(h)
            skips.append(h)
        for part in self.middle:
            h = part(h, level)
        for part in self.up:
            h = part(torch.cat([h, skips.pop()], 1), level) if isinstance(part, Stage) else part(h)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
