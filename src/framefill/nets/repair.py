"""Repairing a frame that motion has carried between two others.

What is seen (see `Layout`): both frames, each of them carried along two guesses of the motion, the guesses, and how
far each is trusted. A U-Net from half to a sixteenth of the resolution corrects where the two frames are read; a
few layers at half resolution then say how to mix both readings and the mixture of the guesses, and add what all of
them lack:

      y = m_0 a(x - t v + d_0) + m_1 b(x + (1 - t) v + d_1) + m_2 guess + r,        m_0 + m_1 + m_2 = 1

At the start of training d = r = 0 and the guess has nearly all of the weight. An optional latent picture, at an
eighth of the resolution, tells the network what the truth is like where what it sees does not say (latent diffusion).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framefill.nets.layers import conv
from framefill.nets.warp import fetch

STRIDE = 16
MOTION_UNIT = 16.0  # pixels: motion is seen and corrected in these
FAVOUR = 3.0  # logit of the guess at the start


@dataclass(frozen=True)
class Seen:
    """What is known of a frame between two: channels of one tensor, in this order, for pictures of `channels`.

    `ends` (2C): the first and the last frame; `carried` (4C): both along the first guess, then along the second;
    `motion` (4): of both guesses, in pixels, from the first to the last frame; `trust` (2), `time` (1).
    """

    ends: Tensor
    carried: Tensor
    motion: Tensor
    trust: Tensor
    time: Tensor

    @classmethod
    def of(cls, seen: Tensor, channels: int) -> "Seen":
        """The parts of `seen` (B, 6C + 7, H, W)."""
        return cls(*seen.split((2 * channels, 4 * channels, 4, 2, 1), 1))

    def mixed(self) -> tuple[Tensor, Tensor]:
        """The frame (B, C, H, W) that both guesses make, and their motion (B, 2, H, W): by time and by trust."""
        share = self.trust[:, :1] / self.trust.sum(1, keepdim=True)
        one, other = self.carried.chunk(2, 1)
        first, second = (torch.lerp(*pair.chunk(2, 1), self.time) for pair in (one, other))
        return torch.lerp(second, first, share), torch.lerp(self.motion[:, 2:], self.motion[:, :2], share)


class Repair(nn.Module):
    """`features` are those at 1/2, 1/4, 1/8 and 1/16 of the resolution; `latents` the channels of a latent, if any."""

    def __init__(self, channels: int = 3, *, features: tuple[int, ...] = (32, 64, 96, 128), latents: int = 0):
        super().__init__()
        self.channels, self.latents = channels, latents
        half, *widths = features
        self.stem = conv(4 * 6 * channels + 7, half)
        self.down = nn.ModuleList(conv(a, b, stride=2) for a, b in zip(features[:-1], widths, strict=True))
        self.reduce = nn.ModuleList(nn.Sequential(Block(w), Block(w)) for w in widths)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(features[:-1], widths, strict=True))
        self.merge = nn.ModuleList(
            nn.Sequential(conv(2 * w, w), nn.LeakyReLU(0.1), Block(w)) for w in features[:-1]
        )
        self.shift = conv(half, 4)
        self.gather = conv(4 * 3 * channels + half, half + 16)
        self.finish = nn.Sequential(Block(half + 16), conv(half + 16, 4 * (3 + channels)))
        self.hint = nn.Conv2d(latents, widths[1], 1) if latents else None
        for last in (self.shift, self.finish[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, seen: Tensor, latent: Tensor | None = None) -> Tensor:
        """The frame (B, C, H, W) between, from `seen` (B, 6C + 7, H, W) as in `Seen`; any height and width."""
        H, W = seen.shape[-2:]
        seen = F.pad(seen, (0, -W % STRIDE, 0, -H % STRIDE), mode="replicate")
        parts = Seen.of(seen, self.channels)
        known = self._look(parts, latent)
        guess, motion = parts.mixed()
        readings = self._read(parts, motion, known)
        return self._finish(torch.cat([*readings, guess], 1), known)[..., :H, :W]

    def _look(self, parts: Seen, latent: Tensor | None) -> Tensor:
        """Features (B, half, H/2, W/2) of all that is seen."""
        pictures = F.pixel_unshuffle(torch.cat([parts.ends, parts.carried], 1), 2)
        rest = torch.cat([parts.motion / MOTION_UNIT, parts.trust, parts.time], 1)
        x = F.leaky_relu(self.stem(torch.cat([pictures, F.avg_pool2d(rest, 2)], 1)), 0.1)
        levels = []
        for level, (down, reduce) in enumerate(zip(self.down, self.reduce, strict=True)):
            levels.append(x)
            x = reduce(F.leaky_relu(down(x), 0.1))
            if level == 1 and self.hint is not None:
                x = x + self.hint(latent)
        for up, merge, kept in zip(reversed(self.up), reversed(self.merge), reversed(levels), strict=True):
            x = merge(torch.cat([F.pixel_shuffle(up(x), 2), kept], 1))
        return x

    def _read(self, parts: Seen, motion: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Both frames, read where the corrected motion says."""
        shift = MOTION_UNIT * F.interpolate(self.shift(known).float(), scale_factor=2, mode="bilinear")
        first, last = parts.ends.float().chunk(2, 1)
        time = parts.time.float()
        with torch.autocast(motion.device.type, enabled=False):
            return (
                fetch(first, shift[:, :2] - time * motion.float()),
                fetch(last, shift[:, 2:] + (1 - time) * motion.float()),
            )

    def _finish(self, readings: Tensor, known: Tensor) -> Tensor:
        """The mixture of three readings (B, 3C, H, W), and what they lack."""
        x = F.leaky_relu(self.gather(torch.cat([F.pixel_unshuffle(readings, 2), known], 1)), 0.1)
        said = F.pixel_shuffle(self.finish(x), 2).float()
        favour = said.new_tensor([0.0, 0.0, FAVOUR]).reshape(1, 3, 1, 1)
        share = (said[:, :3] + favour).softmax(1).unsqueeze(2)
        pictures = readings.float().unflatten(1, (3, self.channels))
        return (share * pictures).sum(1) + said[:, 3:]


class Block(nn.Module):
    """Two convolutions whose result is added."""

    def __init__(self, width: int):
        super().__init__()
        self.one, self.two = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, width, H, W) with what they add."""
        return x + self.two(F.leaky_relu(self.one(x), 0.1))
