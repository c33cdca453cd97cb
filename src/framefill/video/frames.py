"""Diffusion over sets of frames, some of them observed (Harvey et al. 2022, "FDM"; paper 000, section 4; facts, 2.1).

A set is up to K frames of a video, each with its number, observed or latent; places of the set may be empty. One time
of diffusion is drawn for all latent frames, and the network sees the observed ones as they are:

      network(x_t (1 - o) + x o, o; numbers, there) -> eps of the latent frames

A video then comes frame after frame, each given the `context` before it; the first `context` frames come together. That
is the paper's protocol: 1 + T - context runs of the sampler, so 3,000 steps of 1,000 for 4 frames of context 2.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.diffusion.complete import Placement, Window
from framefill.errors import BadInput
from framefill.nets.frames import FrameUNet

PLANES = 4  # of a condition, beside the frames: observed, number, there, class


@dataclass(frozen=True)
class FrameSet:
    """Which frames of videos, `numbers` (B, K); which of them are `observed`, and which places are filled, `there`."""

    numbers: Tensor
    observed: Tensor
    there: Tensor

    @property
    def latent(self) -> Tensor:
        """Which are to be drawn, (B, K) bool."""
        return self.there & ~self.observed

    def to(self, device: torch.device) -> "FrameSet":
        """The same elsewhere."""
        return FrameSet(self.numbers.to(device), self.observed.to(device), self.there.to(device))

    def of(self, clips: Tensor) -> Tensor:
        """Its frames (B, K, C, H, W) of clips (B, T, C, H, W); those of empty places are arbitrary."""
        rows = torch.arange(len(clips), device=clips.device)[:, None]
        return clips[rows, self.numbers]


def training_sets(rng: Rng, frames: int, most: int) -> FrameSet:
    """What training observes and draws: groups of evenly spaced frames, until `most` are in the set, or all.

    A group has s frames, s uniform up to `most`, of a spacing that is log-uniform up to what the video allows, anywhere
    in it. The first is latent, the others as a coin says. Paper: the program fills empty places with frames of another
    video, and learns them too; here they stay empty.
    """
    if not 1 <= most <= frames:
        raise BadInput(f"sets of up to {most} of {frames} frames; give 1 to {frames}")
    numbers = torch.zeros(len(rng), most, dtype=torch.int64)
    observed, there = torch.zeros(2, len(rng), most, dtype=torch.bool)
    for i in range(len(rng)):
        for place, (number, seen) in enumerate(_set(rng.pick([i]), frames, most).items()):
            numbers[i, place], observed[i, place], there[i, place] = number, seen, True
    return FrameSet(numbers, observed, there)


def _set(rng: Rng, frames: int, most: int) -> dict[int, bool]:
    chosen: dict[int, bool] = {}
    while True:
        size, spacing, start, coin = rng.uniform((4,))[0].double().tolist()
        count = 1 + int(size * most)
        step = math.exp(spacing * math.log(frames / (count - 0.999))) if count > 1 else 1.0
        reach = int((count - 1) * step)
        first = int(start * max(frames - reach, 1))
        group = {first + int(i * step) for i in range(count)} - set(chosen)
        group = {number for number in group if number < frames}
        if chosen and len(chosen) + len(group) > most:
            return dict(sorted(chosen.items()))
        seen = bool(chosen) and coin < 0.5
        chosen |= dict.fromkeys(sorted(group), seen)
        if len(chosen) == most:
            return dict(sorted(chosen.items()))


def condition(frames: Tensor, chosen: FrameSet, names: Tensor) -> Tensor:
    """What a `Framewise` network is told: (B, K, C + PLANES, H, W) of frames (B, K, C, H, W) and classes (B,)."""
    numbers = chosen.numbers.to(frames.dtype)
    said = [chosen.observed.to(frames.dtype), numbers, chosen.there.to(frames.dtype), names[:, None].expand_as(numbers)]
    planes = torch.stack([part.to(frames.dtype) for part in said], 2)[..., None, None]
    seen = frames * chosen.observed[:, :, None, None, None]
    return torch.cat([seen, planes.expand(-1, -1, -1, *frames.shape[3:])], 2)


class Framewise(nn.Module):
    """`network` as one of x (B, K, C, H, W) and a `condition`; of single frames nothing is ever observed."""

    def __init__(self, network: FrameUNet, *, single: bool):
        super().__init__()
        self.network, self.single = network, single

    def forward(self, x: Tensor, label: Tensor, cond: Tensor) -> Tensor:
        """eps of the latent frames; of the others, anything."""
        seen, planes = cond[:, :, :-PLANES].to(x.dtype), cond[:, :, -PLANES:]
        observed, numbers, there, names = planes[..., 0, 0].unbind(2)
        shown = x
        if not self.single:
            flags = observed.to(x.dtype)[:, :, None, None, None]
            shown = torch.cat([torch.lerp(x, seen, flags), flags.expand(-1, -1, 1, *x.shape[3:])], 2)
        return self.network(shown, label, numbers, there > 0, names[:, 0].round().long())


def without_class(classes: int, cond: Tensor) -> Tensor:
    """The condition with the class withheld, for guidance."""
    return torch.cat([cond[:, :, :-1], torch.full_like(cond[:, :, -1:], classes)], 2)


def frame_by_frame(window: Window, known: Sequence[bool]) -> Iterator[Placement]:
    """The first `current` - 1 frames together, then each given so many before it; for sequences of unknown frames.

    The first window begins a frame before the sequence, so its first place is empty.
    """
    context, frames = window.current - 1, len(known)
    if window.length != window.current or any(known) or frames < max(context, 1):
        raise BadInput(f"{frames} unknown frames in windows of {window}; this order begins with {context} from nothing")
    if context:
        yield Placement(-1)
    for number in range(context, frames):
        yield Placement(number - context)


def placed(known: Tensor) -> FrameSet:
    """The set of a window of `frame_by_frame`, known (B, K): before anything is known, the first place is empty."""
    there = torch.ones_like(known)
    if known.shape[1] > 1 and not known.any():
        there[:, 0] = False
    return FrameSet(torch.arange(known.shape[1], device=known.device).expand_as(known), known, there)
