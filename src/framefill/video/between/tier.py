"""What makes frames between two, from the quickest to the best: one way to ask, however it is done.

`Fast` carries both frames along their motion, `Balanced` has a network repair that. Others: policies.py (no motion at
all, for cuts), and the latent diffusion of recipes/latent_interpolation.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from framefill.arrays import Rng
from framefill.device import bf16_pays
from framefill.errors import BadInput
from framefill.video.between.warp import Motion, fused, seen


class Between(Protocol):
    """What makes frames between two. `context` is how many known frames it wants on each side of the gap."""

    @property
    def context(self) -> int:
        """1: only the two frames; n: n before and n after the gap."""
        ...

    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """Frames (N, len(times), C, H, W) at `times`, in order, one of N samples for each stream of `rng`.

        `frames` (2 context, C, H, W) in [-1, 1] are the known ones; the gap is between the middle two, its ends are the
        times 0 and 1. Raises BadInput for a number of channels that it cannot take.
        """
        ...


@dataclass(frozen=True)
class Fast:
    """Both frames carried along their motion, where it can be trusted. Any number of channels; one answer only."""

    context: int = 1

    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """As in `Between`."""
        first, last = (frame.movedim(0, -1).cpu().numpy() for frame in frames)
        motion = Motion.between(first, last)
        made = [torch.from_numpy(fused(motion.guesses(time), time)) for time in times]
        return torch.stack(made).movedim(-1, 1).to(frames).expand(len(rng), -1, -1, -1, -1)


@dataclass(frozen=True)
class Balanced:
    """What `Fast` makes, repaired by the network `model` in one call; colour or grey. One answer only."""

    model: nn.Module
    device: str = "cpu"
    context: int = 1
    card: Any = None

    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """As in `Between`."""
        first, last = (frame.movedim(0, -1).float().cpu().numpy() for frame in in_colour(frames))
        motion = Motion.between(np.ascontiguousarray(first), np.ascontiguousarray(last))
        made = torch.cat([self._repaired(motion, time) for time in times])
        return as_given(made, frames).expand(len(rng), -1, -1, -1, -1)

    def _repaired(self, motion: Motion, time: float) -> Tensor:
        """The frame (1, C, H, W) at one time."""
        views = (torch.from_numpy(view)[None].to(self.device) for view in seen(motion, motion.guesses(time), time))
        with torch.inference_mode(), torch.autocast(kind := self.device.split(":")[0], enabled=bf16_pays(kind)):
            return self.model(*views)


def in_colour(frames: Tensor) -> Tensor:
    """Frames (N, C, H, W) of 1 or 3 channels with 3; BadInput for others."""
    if frames.shape[1] not in (1, 3):
        raise BadInput(
            f"the networks for frames between take 1 or 3 channels, got {frames.shape[1]}; the tier fast takes any"
        )
    return frames.expand(-1, 3, -1, -1)


def as_given(made: Tensor, frames: Tensor) -> Tensor:
    """Frames (..., 3, H, W) made from what was `in_colour`, grey where `frames` were, in their type and place."""
    return (made.mean(-3, keepdim=True) if frames.shape[1] == 1 else made).to(frames)
