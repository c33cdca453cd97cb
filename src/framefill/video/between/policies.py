"""Frames between two without motion: the first held, the nearer one, a fade. What is shown at a cut, and a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framefill.arrays import Rng


def _placed(times: Sequence[float], frames: Tensor) -> Tensor:
    """Times as (T, 1, 1, 1), beside frames (C, H, W)."""
    return torch.tensor(list(times), dtype=frames.dtype, device=frames.device).reshape(-1, 1, 1, 1)


@dataclass(frozen=True)
class Hold:
    """The earlier frame stays until the later one comes, as a film without interpolation shows it."""

    context: int = 1

    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """See `Between`."""
        return frames[self.context - 1].expand(len(rng), len(times), *frames.shape[1:])


@dataclass(frozen=True)
class Nearest:
    """The nearer of the two frames, the later one at the middle."""

    context: int = 1

    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """See `Between`."""
        later = _placed(times, frames) >= 0.5
        return torch.where(later, frames[self.context], frames[self.context - 1]).expand(len(rng), -1, -1, -1, -1)


@dataclass(frozen=True)
class Blend:
    """(1 - t) of the earlier frame and t of the later one."""

    context: int = 1

    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """See `Between`."""
        mixed = torch.lerp(frames[self.context - 1], frames[self.context], _placed(times, frames))
        return mixed.expand(len(rng), -1, -1, -1, -1)
