"""C-ViViT: transformers over the patches of a clip, among the patches of one time, then among the times of one place
(Villegas et al. 2022, "Phenaki"; facts, section 1.2).

      encoder:  patches -> linear -> spatial layers -> temporal layers -> features
      decoder:  features -> temporal layers -> spatial layers -> linear -> patches

In time everything looks back only: a feature depends on its own and earlier patches, a patch on its own and earlier
features. Frames are cut `time` at a time. In the even layout T frames make T / time; in the other the first frame is by
itself and 1 + k time frames make 1 + k. It is then the last of a patch whose other frames repeat it.

Paper: the published program gives the first frame layers of its own and normalises every patch before the first layer,
which hides brightness and contrast; its position layer takes places for times and is not causal (facts, section 0.7).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framefill.errors import BadInput
from framefill.nets.tokens import Grid
from framefill.nets.transformer import Near, Norm, OffsetBias, ahead, cosine_block, fading, start


@dataclass(frozen=True)
class Patches:
    """How clips are cut: `time` frames by `side` x `side` pixels; `first_alone` says which of the two layouts."""

    time: int = 2
    side: int = 4
    first_alone: bool = False

    def __post_init__(self) -> None:
        if min(self.time, self.side) < 1:
            raise BadInput(f"patches of {self.time} frames and {self.side} pixels; give positive numbers")

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """How many patches there are along time, height and width; BadInput where they do not divide."""
        rest = (frames - 1 if self.first_alone else frames) % self.time
        if frames < 1 or rest:
            allowed = f"1 + k {self.time}" if self.first_alone else f"multiples of {self.time}"
            raise BadInput(f"clips of {frames} frames for patches of {self.time}; their lengths are {allowed}")
        if height % self.side or width % self.side or min(height, width) < 1:
            raise BadInput(f"frames of {height}x{width} for patches of {self.side}x{self.side}; crop or resize them")
        return -(-frames // self.time), height // self.side, width // self.side

    def frames(self, times: int) -> int:
        """How many frames so many patches make along time."""
        return times * self.time - (self.time - 1 if self.first_alone else 0)

    def cut(self, clips: Tensor) -> Tensor:
        """Clips (B, T, C, H, W) to patches (B, t, h, w, time C side side)."""
        B, T, C, H, W = clips.shape
        t, h, w = self.grid(T, H, W)
        parts = self.lengthened(clips).reshape(B, t, self.time, C, h, self.side, w, self.side)
        return parts.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)

    def join(self, patches: Tensor) -> Tensor:
        """The way back."""
        parts = patches.unflatten(4, (self.time, -1, self.side, self.side)).permute(0, 1, 4, 5, 2, 6, 3, 7)
        return self.shortened(parts.flatten(1, 2).flatten(3, 4).flatten(4, 5))

    def lengthened(self, clips: Tensor) -> Tensor:
        """Clips (B, T, ...) with the first frame repeated in front, where it is alone, so that `time` divides T."""
        if not self.first_alone:
            return clips
        return torch.cat([clips[:, :1].expand(-1, self.time - 1, -1, -1, -1), clips], 1)

    def shortened(self, clips: Tensor) -> Tensor:
        """The way back."""
        return clips[:, self.time - 1 :] if self.first_alone else clips


PAIRS = Patches()


def check_clips(clips: Tensor, channels: int) -> None:
    """BadInput unless `clips` are (B, T, channels, H, W)."""
    if clips.ndim != 5 or clips.shape[2] != channels or not len(clips):
        raise BadInput(f"this network takes clips (B, T, {channels}, H, W), got shape {tuple(clips.shape)}")


class Spatial(nn.Module):
    """Transformer layers among the patches of each time."""

    def __init__(self, width: int, heads: int, head_width: int, layers: int):
        super().__init__()
        self.blocks = nn.ModuleList([cosine_block(width, heads, head_width) for _ in range(layers)])
        self.norm = Norm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, t, h, w, width) and the bias (heads, h w, h w) to the shape of x."""
        h = x.flatten(0, 1).flatten(1, 2)
        for block in self.blocks:
            h = block(h, bias)
        return self.norm(h).view(x.shape)


class Temporal(nn.Module):
    """Transformer layers among the times of each place that look back only; before each, at what is near."""

    def __init__(self, width: int, heads: int, head_width: int, layers: int):
        super().__init__()
        self.heads = heads
        self.near = nn.ModuleList([Near(width, causal=True) for _ in range(layers)])
        self.blocks = nn.ModuleList([cosine_block(width, heads, head_width) for _ in range(layers)])
        self.norm = Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, h, w, width) to the same shape."""
        if not self.blocks:
            return x
        B, T, H, W, _ = x.shape
        bias = fading(T, self.heads, x.device) + ahead(T, x.device)
        for near, block in zip(self.near, self.blocks, strict=True):
            x = x + near(x)
            h = block(x.flatten(2, 3).transpose(1, 2).flatten(0, 1), bias)
            x = h.view(B, H * W, T, -1).transpose(1, 2).unflatten(2, (H, W))
        return self.norm(x)


class ClipTransformer(nn.Module):
    """Clips to features (B, t, h, w, width) and back; defaults are the paper's for 8 and 18 frames.

    For single images it takes `temporal` 0, `spatial` 8 and patches of 1 frame. 50.8 million parameters either way.
    """

    def __init__(
        self,
        channels: int = 3,
        patches: Patches = PAIRS,
        *,
        width: int = 512,
        heads: int = 8,
        head_width: int = 64,
        spatial: int = 4,
        temporal: int = 4,
    ):
        super().__init__()
        if spatial < 1 or temporal < 0 or channels < 1:
            raise BadInput(f"a network of {spatial} spatial and {temporal} temporal layers for {channels} channels")
        self.channels, self.patches, self.width = channels, patches, width
        area = channels * patches.time * patches.side**2
        shape = width, heads, head_width
        self.enter = nn.Linear(area, width)
        start(self.enter)
        nn.init.normal_(self.enter.bias)  # of the size of the patches' share, so that norms see how strong they are
        self.spatial = nn.ModuleList([Spatial(*shape, spatial) for _ in range(2)])
        self.temporal = nn.ModuleList([Temporal(*shape, temporal) for _ in range(2)])
        self.offsets = OffsetBias(2, heads, width)
        self.head = nn.Linear(width, area)
        start(self.head)

    def encode(self, clips: Tensor) -> Tensor:
        """Clips (B, T, channels, H, W) to features (B, t, h, w, width); BadInput for clips that cannot be cut."""
        check_clips(clips, self.channels)
        h = self.enter(self.patches.cut(clips))
        return self.temporal[0](self.spatial[0](h, self.offsets(*h.shape[2:4])))

    def decode(self, features: Tensor) -> Tensor:
        """The way back."""
        h = self.spatial[1](self.temporal[1](features), self.offsets(*features.shape[2:4]))
        return self.patches.join(self.head(h))

    def last_layer(self) -> Tensor:
        """The weight that every pixel passes last, whatever the layout and the number of frames."""
        return self.head.weight
