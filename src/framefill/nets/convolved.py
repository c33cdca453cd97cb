"""The convolutional alternative to C-ViViT: frames are shrunk one by one, then clips are seen from their past only.

      encoder:  [4x4 convolution of frames, half the size] .. -> `time` frames to one -> residual blocks -> features
      decoder:  features -> residual blocks -> one to `time` frames -> [twice the size] .. -> convolution

The residual blocks look 3x3 around and two times back; blocks of one frame make it the VQ-VAE of images.

Paper: VideoGPT's, of which the width and the number of blocks are taken, also looks ahead, normalises over the batch
and has attention in its blocks; here nothing looks ahead and every place is normalised by itself, so that a frame's
tokens depend neither on later frames nor on other clips.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.clips import PAIRS, Patches, check_clips
from framefill.nets.layers import conv, fresh
from framefill.nets.transformer import Norm, start


class PastConvolution(nn.Module):
    """A 3x3x3 convolution of (B, T, H, W, width) that sees this time and the two before; `scale` as for `conv`."""

    def __init__(self, width: int, *, scale: float = 1.0):
        super().__init__()
        self.layer = fresh(nn.Conv3d(width, width, 3, padding=(0, 1, 1)), scale)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        past = F.pad(x, (0, 0, 0, 0, 0, 0, 2, 0))
        return self.layer(past.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class PastBlock(nn.Module):
    """Two of them around a shortcut; a fresh block is its shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList([Norm(width), Norm(width)])
        self.convs = nn.ModuleList([PastConvolution(width), PastConvolution(width, scale=0.0)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H, W, width) to the same shape."""
        h = x
        for norm, convolution in zip(self.norms, self.convs, strict=True):
            h = convolution(F.silu(norm(h)))
        return x + h


class ClipConvolutions(nn.Module):
    """Clips to features (B, t, h, w, width) and back, as `ClipTransformer`; the side of a patch is a power of two."""

    def __init__(self, channels: int = 3, patches: Patches = PAIRS, *, width: int = 240, blocks: int = 4):
        super().__init__()
        levels = patches.side.bit_length() - 1
        if 2**levels != patches.side or min(channels, width) < 1 or blocks < 0:
            raise BadInput(
                f"convolutions of width {width} for {channels} channels and patches of {patches.side} pixels; give a "
                f"power of two"
            )
        self.channels, self.patches, self.width = channels, patches, width
        self.stem = conv(channels, width)
        self.down = nn.ModuleList([fresh(nn.Conv2d(width, width, 4, 2, 1)) for _ in range(levels)])
        self.merge, self.split = nn.Linear(patches.time * width, width), nn.Linear(width, patches.time * width)
        for layer in (self.merge, self.split):
            start(layer)
        self.before = nn.Sequential(*(PastBlock(width) for _ in range(blocks)))
        self.after = nn.Sequential(*(PastBlock(width) for _ in range(blocks)))
        # of a transposed convolution only a quarter of the weights reach a pixel, hence 4 times the variance
        self.up = nn.ModuleList([fresh(nn.ConvTranspose2d(width, width, 4, 2, 1), 4.0) for _ in range(levels)])
        self.head = conv(width, channels)

    def encode(self, clips: Tensor) -> Tensor:
        """Clips (B, T, channels, H, W) to features (B, t, h, w, width); BadInput for clips that cannot be cut."""
        check_clips(clips, self.channels)
        self.patches.grid(clips.shape[1], *clips.shape[3:])
        clips = self.patches.lengthened(clips)
        h = self.stem(clips.flatten(0, 1))
        for layer in self.down:
            h = layer(F.silu(h))
        h = h.unflatten(0, (len(clips), -1, self.patches.time)).permute(0, 1, 4, 5, 2, 3).flatten(4)
        return self.before(self.merge(h))

    def decode(self, features: Tensor) -> Tensor:
        """The way back."""
        h = self.split(self.after(features)).unflatten(4, (self.patches.time, -1))
        h = h.permute(0, 1, 4, 5, 2, 3).flatten(0, 2)
        for layer in self.up:
            h = layer(F.silu(h))
        return self.patches.shortened(self.head(F.silu(h)).unflatten(0, (len(features), -1)))

    def last_layer(self) -> Tensor:
        """The weight that every pixel passes last."""
        return self.head.weight
