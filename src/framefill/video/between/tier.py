"""What makes frames between two known ones: one protocol, from holding still to a diffusion model."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from framefill.arrays import Rng


class Between(Protocol):
    """What makes frames between two; `context` is how many known frames it sees on each side: 1 = only the two."""

    @property
    def context(self) -> int:
        """Known frames on each side of the gap."""
        ...

    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """Frames at `times`, increasing in (0, 1), between numbers context - 1 and context of `frames`.

        `frames` (2 context, C, H, W) in [-1, 1]; gives (N, len(times), C, H, W), a sample for each stream of `rng`.
        """
        ...
