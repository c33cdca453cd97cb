"""Latents of clips, shortened along time and lengthened again: both learned, each the other's reverse (seed 002).

      squeeze:  (1x1x1 convolution, mean of pairs of frames) x log2 factor
      deflate:  (transposed convolution, each frame becomes two) x log2 factor

They begin as plain means and repetitions. Paper: how the reverse is made is not said (facts, section 3.3).
"""

import torch
from torch import Tensor, nn

from framefill.errors import BadInput

FACTORS = (1, 2, 4, 8)


class Times(nn.Module):
    """Between T and T / factor frames, for latents of `channels`; factor 1, 2, 4 or 8 (BadInput)."""

    def __init__(self, channels: int, factor: int):
        super().__init__()
        if factor not in FACTORS:
            raise BadInput(f"time can be shortened by 1, 2, 4 or 8, got {factor}")
        self.factor = factor
        steps = FACTORS.index(factor)
        self.mixes = nn.ModuleList([nn.Linear(channels, channels) for _ in range(steps)])
        self.doubles = nn.ModuleList([nn.Linear(channels, 2 * channels) for _ in range(steps)])
        with torch.no_grad():
            same = torch.eye(channels)
            for layer in (*self.mixes, *self.doubles):
                layer.get_parameter("weight").copy_(same.repeat(len(layer.get_parameter("bias")) // channels, 1))
                layer.get_parameter("bias").zero_()

    def squeeze(self, z: Tensor) -> Tensor:
        """z (B, C, T, h, w) to (B, C, T / factor, h, w); BadInput where factor does not divide T."""
        if z.shape[2] % self.factor:
            raise BadInput(f"{z.shape[2]} frames cannot be shortened by {self.factor}; give a multiple")
        h = z.movedim(1, -1)  # (B, T, h, w, C)
        for layer in self.mixes:
            h = layer(h).unflatten(1, (-1, 2)).mean(2)
        return h.movedim(-1, 1)

    def deflate(self, z: Tensor) -> Tensor:
        """z (B, C, t, h, w) to (B, C, factor t, h, w)."""
        h = z.movedim(1, -1)
        for layer in self.doubles:
            h = layer(h).unflatten(-1, (2, -1)).movedim(-2, 2).flatten(1, 2)
        return h.movedim(-1, 1)
