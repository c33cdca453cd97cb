"""The discriminator of pix2pix (Isola et al. 2017): says of every patch of a picture whether it looks real.

Paper: theirs normalises over the batch, which couples the answers about different pictures and differs between
training and use; this one normalises every picture by itself.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.layers import GroupNorm, fresh


class PatchDiscriminator(nn.Module):
    """Pictures (B, channels, H, W) to one number per patch (B, 1, h, w), about H / 2^layers by W / 2^layers.

    A patch is 70 pixels wide with 3 `layers`, 34 with 2, 16 with 1. Pictures must be of at least `smallest` pixels.
    """

    def __init__(self, channels: int, *, width: int = 64, layers: int = 3):
        super().__init__()
        if not 1 <= layers <= 6 or min(channels, width) < 1:
            raise BadInput(f"a discriminator has 1 to 6 layers and some width, got {layers} of width {width}")
        widths = [channels, *(width * min(2**i, 8) for i in range(layers + 1)), 1]
        strides = [2] * layers + [1, 1]
        self.smallest = 4 * 2**layers
        convs = [nn.Conv2d(i, o, 4, stride=s, padding=1) for i, o, s in zip(widths, widths[1:], strides, strict=False)]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList([GroupNorm(features) for features in widths[2:-1]])
        for layer in convs:
            fresh(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Above zero where x looks real, below where it looks made."""
        self.fits(*x.shape[-2:])
        h = F.leaky_relu(self.convs[0](x), 0.2)
        for conv, norm in zip(self.convs[1:-1], self.norms, strict=True):
            h = F.leaky_relu(norm(conv(h)), 0.2)
        return self.convs[-1](h)

    def fits(self, height: int, width: int) -> None:
        """BadInput for pictures that are too small."""
        if min(height, width) < self.smallest:
            size = f"{height}x{width}"
            raise BadInput(f"pictures of {size} for a discriminator that needs {self.smallest}; give it fewer layers")


class EveryFrame(nn.Module):
    """A discriminator of pictures on every frame of clips (B, T, C, H, W): (B, T, h, w).

    Paper: 000's program judges one frame of each clip, drawn at random.
    """

    def __init__(self, discriminator: nn.Module):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, x: Tensor) -> Tensor:
        """As the discriminator says."""
        return self.discriminator(x.flatten(0, 1)).squeeze(1).unflatten(0, x.shape[:2])
