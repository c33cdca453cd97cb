"""`LatentInterpolator`: frames between two by diffusion in the latents of a repairer. A `Between`, no mathematics.

What is known is carried to the time wanted (views.py); a sampler draws the latent of the rest in a few calls of a small
network; the painter makes the frame of both. All times of a gap are drawn from the same noise, so that what is
made up stays the same while it moves, and a frame does not depend on which others were asked for.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from framefill.arrays import Rng, continued
from framefill.diffusion.sample import DPMSolver, Sampler
from framefill.errors import BadInput
from framefill.latents.repairer import LatentRepairer, Seen
from framefill.nets.views import STRIDE
from framefill.video.between.tier import as_given, in_colour
from framefill.video.between.views import Gap


@dataclass(frozen=True)
class LatentInterpolator:
    """A trained `model` and how to draw from it, with `context` known frames on either side of a gap.

    `temperature` in [0, 1] scales the noise that drawing starts from: 1 draws what the model holds possible, 0 always
    the same, near the middle of it. A model of the first stage alone draws nothing: its latent is 0.
    """

    model: LatentRepairer
    context: int = 1
    sampler: Sampler = field(default_factory=lambda: DPMSolver(8))
    temperature: float = 1.0
    device: str = "cpu"
    card: Any = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 1:
            raise BadInput(f"temperature must lie in [0, 1] (1: what the model holds possible), got {self.temperature}")

    @property
    def calls(self) -> int:
        """Network evaluations for one frame, but for reading and painting."""
        return self.sampler.calls if self.model.denoiser is not None else 0

    @torch.inference_mode()
    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """(N, len(times), C, H, W) in [-1, 1], N = len(rng), from frames (2 * context, C, H, W); C is 1 or 3.

        `times` of the gap between the middle two lie in (0, 1). Sample i depends on stream i of `rng` only.
        """
        if frames.ndim != 4 or len(frames) != 2 * self.context:
            raise BadInput(
                f"known frames have shape {tuple(frames.shape)}; this model takes ({2 * self.context}, C, H, W)"
            )
        gap, start = Gap.around(in_colour(frames)), rng.state()
        made = []
        for time in times:
            rng.restore(start)
            made.append(self.frame(gap.at(time), rng))
        return as_given(torch.stack(made, 1), frames)

    def frame(self, seen: Seen, rng: Rng) -> Tensor:
        """The samples (N, 3, H, W) of one frame."""
        H, W = seen.guess.shape[-2:]
        seen = Seen(*(continued(x, self._stride).to(self.device) for x in seen))
        read = self.model.repairer.read(seen)
        drawn = [self._latent(read[1][-1], rng.pick([i])) for i in range(len(rng))]
        made = [self.model.repairer.paint(seen, read, z)[0, :, :H, :W] for z in drawn]
        return torch.stack(made).clamp(-1, 1).cpu()

    @property
    def _stride(self) -> int:
        network = getattr(self.model.denoiser, "network", None)
        return STRIDE * getattr(network, "stride", 1)

    def _latent(self, cond: Tensor, rng: Rng) -> Tensor:
        """A standardised latent (1, latent, h, w) for features `cond` (1, ..., h, w)."""
        like = cond.new_zeros(1, self.model.repairer.latent, *cond.shape[2:], dtype=torch.float32)
        if self.model.denoiser is None:
            return like
        path = self.sampler.path(self.model.denoiser)
        x = self.temperature * path[0].sigma * self.model.denoiser.noise.like(like, rng)
        path_taken = self.sampler.trajectory(self.model.denoiser, x, cond.float(), rng, path=path)
        return deque(path_taken, maxlen=1).pop().to(like.dtype)
