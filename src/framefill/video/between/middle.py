"""`MiddleInterpolator`: frames between two by seed 004's latent diffusion, which knows the middle only.

Other times are middles of middles: 1/4 lies between the first frame and 1/2. They are sought in latents, so that only
the frame that is wanted is decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from framefill.arrays import Rng, continued
from framefill.diffusion.sample import DDPM, Sampler
from framefill.errors import BadInput
from framefill.latents.neighbours import Middle
from framefill.video.between.tier import as_given, in_colour

FINEST = 64  # times are multiples of one over this


@dataclass(frozen=True)
class MiddleInterpolator:
    """A trained `model` and the sampler that draws from it; sizes are padded to multiples of `stride`. A `Between`."""

    model: Middle
    stride: int
    sampler: Sampler = field(default_factory=lambda: DDPM(1000))
    device: str = "cpu"
    card: Any = None
    context: int = 1

    @torch.inference_mode()
    def __call__(self, frames: Tensor, times: Sequence[float], rng: Rng) -> Tensor:
        """(N, len(times), C, H, W) in [-1, 1] from frames (2, C, H, W), C 1 or 3; sample i depends on stream i only.

        BadInput for times that are no multiples of 1/64.
        """
        if frames.ndim != 4 or len(frames) != 2:
            raise BadInput(f"known frames have shape {tuple(frames.shape)}; this model takes (2, C, H, W)")
        H, W = frames.shape[-2:]
        known = continued(in_colour(frames), self.stride)
        ends = self.model.autoencoder.encode(known.float().to(self.device))
        first, last = (z.expand(len(rng), -1, -1, -1) for z in ends.split(1))
        start, made = rng.state(), []
        for time in times:
            rng.restore(start)
            z = self._at(first, last, _parts(time), FINEST, rng)
            made.append(torch.cat([self.model.autoencoder.decode(one) for one in z.split(1)]))
        return as_given(torch.stack(made, 1)[..., :H, :W].clamp(-1, 1), frames)

    def _at(self, first: Tensor, last: Tensor, place: int, span: int, rng: Rng) -> Tensor:
        """The latents at `place` of `span` between two (N, c, h, w)."""
        middle = self.sampler(self.model.denoiser, first, torch.cat([first, last], 1), rng)
        if 2 * place == span:
            return middle
        if 2 * place < span:
            return self._at(first, middle, place, span // 2, rng)
        return self._at(middle, last, place - span // 2, span // 2, rng)


def _parts(time: float) -> int:
    place = round(time * FINEST)
    if not 0 < place < FINEST or abs(place - time * FINEST) > 1e-6:
        raise BadInput(f"this model finds the middle of two frames, so a time is a multiple of 1/{FINEST}, got {time}")
    return place
