"""Repairing a frame that motion has carried between two others.

What is seen: whole, both frames and a guess of the one between; at half the resolution, both frames carried along two
guesses of the motion, these, how far each is trusted, and the time (see `Pair`). A U-Net from half to a sixteenth of
the resolution corrects where the two frames are read; a few layers at half the resolution then say how to mix both
readings and the guess, and add what all of them lack:

      y = m_0 a(x - t v + d_0) + m_1 b(x + (1 - t) v + d_1) + m_2 guess + r,        m_0 + m_1 + m_2 = 1

At the start of training d = r = 0 and the guess has nearly all of the weight. Where the two frames are equal the guess
is kept: what stands still must not flicker.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.arrays import continued
from framefill.nets.layers import conv
from framefill.nets.warp import fetch

STRIDE = 16
MOTION_UNIT = 8.0  # pixels of half resolution: motion is seen and corrected in these
FAVOUR = 3.0  # logit of the guess at the start
STILL = 2 / 127.5  # mean difference of two frames, over 5x5 pixels, from which on all of the repair counts: two levels


@dataclass(frozen=True)
class Pair:
    """What is known of a frame between two, for pictures of C channels.

    Whole, (B, C, H, W) each: the `first` and the `last` frame, and a `guess`. At half the resolution: `carried`
    (B, 4C, h, w), both frames along the first guess of the motion, then along the second; `motion` (B, 4, h, w), both
    guesses, from the first to the last frame in pixels of that resolution; `trust` (B, 2, h, w); `time` (B, 1, h, w).
    """

    first: Tensor
    last: Tensor
    guess: Tensor
    carried: Tensor
    motion: Tensor
    trust: Tensor
    time: Tensor

    @classmethod
    def of(cls, whole: Tensor, half: Tensor) -> "Pair":
        """The parts of `whole` (B, 3C, H, W) and `half` (B, 4C + 7, h, w), with sides made multiples of 16 and 8."""
        whole, half = continued(whole, STRIDE), continued(half, STRIDE // 2)
        return cls(*whole.chunk(3, 1), *half.split((half.shape[1] - 7, 4, 2, 1), 1))

    def mean_motion(self) -> Tensor:
        """The mean of both motions (B, 2, h, w), by trust."""
        share = self.trust[:, :1] / self.trust.sum(1, keepdim=True)
        return torch.lerp(self.motion[:, 2:], self.motion[:, :2], share)

    def moving(self) -> Tensor:
        """0 where the first and the last frame are equal, 1 where they differ by two levels, (B, 1, H, W)."""
        apart = (self.first - self.last).abs().amax(1, keepdim=True)
        return (F.avg_pool2d(apart, 5, 1, 2, count_include_pad=False) / STILL).clamp(max=1)


class Repair(nn.Module):
    """`features` are those at 1/2, 1/4, 1/8 and 1/16 of the resolution."""

    def __init__(self, channels: int = 3, *, features: tuple[int, ...] = (24, 48, 96, 128)):
        super().__init__()
        self.channels = channels
        half, *widths = features
        pairs = list(zip(features[:-1], widths, strict=True))
        self.stem = conv(4 * channels + 7, half)
        self.down = nn.ModuleList(conv(a, b, stride=2) for a, b in pairs)
        self.reduce = nn.ModuleList(nn.Sequential(Block(w), Block(w)) for w in widths)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.merge = nn.ModuleList(nn.Sequential(conv(2 * w, w), nn.LeakyReLU(0.1)) for w in features[:-1])
        self.shift = conv(half, 4)
        self.gather, self.consider = conv(4 * 3 * channels + half, half), Block(half)
        self.finish = conv(half, 4 * (3 + channels))
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.finish.weight)

    def forward(self, whole: Tensor, half: Tensor) -> Tensor:
        """The frame (B, C, H, W) between, from what is seen: (B, 3C, H, W) and (B, 4C + 7, h, w), see `Pair`."""
        parts = Pair.of(whole, half)
        known = self._look(parts)
        made = self._finish(parts, self._read(parts, known), known)
        return torch.lerp(parts.guess, made, parts.moving())[..., : whole.shape[-2], : whole.shape[-1]]

    def _look(self, parts: Pair) -> Tensor:
        """Features (B, half, h, w) of what is seen at half the resolution."""
        everything = torch.cat([parts.carried, parts.motion / MOTION_UNIT, parts.trust, parts.time], 1)
        x = F.leaky_relu(self.stem(everything), 0.1)
        levels = []
        for down, reduce in zip(self.down, self.reduce, strict=True):
            levels.append(x)
            x = reduce(F.leaky_relu(down(x), 0.1))
        for up, merge, kept in zip(reversed(self.up), reversed(self.merge), reversed(levels), strict=True):
            x = merge(torch.cat([F.pixel_shuffle(up(x), 2), kept], 1))
        return x

    def _read(self, parts: Pair, known: Tensor) -> tuple[Tensor, Tensor]:
        """Both frames, read where the corrected motion says."""
        motion, time = parts.mean_motion(), parts.time
        shift = MOTION_UNIT * self.shift(known).to(motion.dtype)
        moved = torch.cat([shift[:, :2] - time * motion, shift[:, 2:] + (1 - time) * motion], 1)
        moved = 2 * F.interpolate(moved, scale_factor=2, mode="bilinear")
        with torch.autocast(moved.device.type, enabled=False):
            return fetch(parts.first, moved[:, :2]), fetch(parts.last, moved[:, 2:])

    def _finish(self, parts: Pair, readings: tuple[Tensor, Tensor], known: Tensor) -> Tensor:
        """The mixture of three pictures, and what they lack."""
        pictures = (*readings, parts.guess)
        x = torch.cat([F.pixel_unshuffle(torch.cat(pictures, 1), 2), known], 1)
        x = self.consider(F.leaky_relu(self.gather(x), 0.1))
        said = F.pixel_shuffle(self.finish(x), 2).to(parts.guess.dtype)
        favour = said.new_tensor([0.0, 0.0, FAVOUR]).reshape(1, 3, 1, 1)
        shares = (said[:, :3] + favour).softmax(1)
        return sum((shares[:, i : i + 1] * picture for i, picture in enumerate(pictures)), said[:, 3:])


class Block(nn.Module):
    """Two convolutions whose result is added."""

    def __init__(self, width: int):
        super().__init__()
        self.one, self.two = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, width, H, W) with what they add."""
        return x + self.two(F.leaky_relu(self.one(x), 0.1))
