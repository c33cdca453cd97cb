"""The U-Net of MCVD (thesis 001, section 7.2.4), with the condition concatenated to the input or by SPATIN.

                 x (+ cond) -> stem -> [blocks + attention, down] x levels -> middle -> [blocks + attention, up] -> head
                                              skip connections from every output on the way down

Sizes are exact: the published configurations have the published parameter counts (`framefill recipes --json`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import Attention, GroupNorm, NoiseLevel, ResBlock, SpatialNorm, Stage, check_size, conv


class UNet(nn.Module):
    """Predicts a tensor of the shape of x from x, a noise-level label and a condition of the same height and width.

    `channels` and `cond_channels` count everything before height and width (frames times colours). `width` and
    `multipliers` give the feature widths per level; `attention` says at which levels there is attention (the middle
    always has it), `head_width` the channels of a head. `spatin` > 0 gives the condition through SPATIN with that
    hidden width; 0 concatenates it to the input. `patch` > 1 works on patch x patch blocks of pixels as channels.

    Height and width must be multiples of `stride`; anything else is refused with a `BadInput` that says so.
    """

    def __init__(
        self,
        channels: int,
        cond_channels: int,
        *,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 2,
        attention: Sequence[bool] = (False, True, True, True),
        head_width: int = 64,
        dropout: float = 0.1,
        spatin: int = 0,
        patch: int = 1,
    ):
        super().__init__()
        if len(attention) != len(multipliers):
            raise BadInput(f"attention needs one entry per level ({len(multipliers)}), got {len(attention)}")
        self.width, self.patch, self.spatin = width, patch, spatin
        self.stride = patch * 2 ** (len(multipliers) - 1)
        self.cond_channels = cond_channels
        area = patch * patch
        embedding = 4 * width
        modulation = cond_channels * area if spatin else 0

        def block(inputs: int, outputs: int, resize: int = 0) -> ResBlock:
            return ResBlock(
                inputs,
                outputs,
                embedding=embedding,
                cond_channels=modulation,
                spatin=spatin,
                dropout=dropout,
                resize=resize,
            )

        def attend(here: bool, features: int) -> Attention | None:
            return Attention(features, head_width) if here else None

        self.embedding = NoiseLevel(width, embedding)
        self.stem = conv((channels + (0 if spatin else cond_channels)) * area, width)
        self.down = nn.ModuleList()
        features, skips = width, [width]
        last = len(multipliers) - 1
        for i, (multiplier, here) in enumerate(zip(multipliers, attention, strict=True)):
            for _ in range(blocks):
                self.down.append(Stage(block(features, width * multiplier), attend(here, width * multiplier)))
                features = width * multiplier
                skips.append(features)
            if i < last:
                self.down.append(Stage(block(features, features, -1)))
                skips.append(features)
        self.middle = nn.ModuleList(
            [Stage(block(features, features), Attention(features, head_width)), Stage(block(features, features))]
        )
        self.up = nn.ModuleList()
        self.joins: list[bool] = []  # which stages on the way up take a skip connection
        for i, (multiplier, here) in reversed(list(enumerate(zip(multipliers, attention, strict=True)))):
            for j in range(blocks + 1):
                final = attend(here and j == blocks, width * multiplier)
                self.up.append(Stage(block(features + skips.pop(), width * multiplier), final))
                self.joins.append(True)
                features = width * multiplier
            if i > 0:
                self.up.append(Stage(block(features, features, 1)))
                self.joins.append(False)
        self.norm: nn.Module = SpatialNorm(features, modulation, spatin) if spatin else GroupNorm(features)
        self.head = conv(features, channels * area, scale=0.0)

    def forward(self, x: Tensor, label: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, ..., H, W), label (B,) in [0, 1000], cond (B, ..., H, W) or None; returns the shape of x."""
        h, cond = self._enter(x, cond)
        level = self.embedding(label, h.dtype)
        h = self.stem(h)
        skips = [h]
        for stage in self.down:
            h = stage(h, level, cond)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, level, cond)
        for stage, joins in zip(self.up, self.joins, strict=True):
            h = stage(torch.cat([h, skips.pop()], 1) if joins else h, level, cond)
        h = F.silu(self.norm(h) if cond is None else self.norm(h, cond))
        return F.pixel_shuffle(self.head(h), self.patch).reshape(x.shape)

    def _enter(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The input of the stem, and what SPATIN layers see (None when the condition is concatenated)."""
        H, W = x.shape[-2:]
        check_size(x, self.stride)
        h = F.pixel_unshuffle(x.flatten(1, -3), self.patch)
        if not self.cond_channels:
            return h, None
        if cond is None:
            raise BadInput(f"this network needs a condition of {self.cond_channels} channels, got none")
        c = F.pixel_unshuffle(cond.flatten(1, -3).to(h.dtype), self.patch)
        expected = self.cond_channels * self.patch**2
        if c.shape[1] != expected or cond.shape[-2:] != (H, W):
            raise BadInput(
                f"this network needs a condition of {self.cond_channels} channels and size {H}x{W}, got "
                f"{c.shape[1] // self.patch**2} channels and size {cond.shape[-2]}x{cond.shape[-1]}"
            )
        return (h, c) if self.spatin else (torch.cat([h, c], 1), None)
