"""A frame that is nearly known, and the small latent that tells what is missing: seen with the truth, drawn without it.

      first stage    z = standardised teller(truth, views)     frame = painter(views, z + noise)
      second stage   z from a diffusion model, given what the views say; the painter is frozen

Views are known frames that were carried to the time wanted (see video/between/warp.py), each with how far it can be
trusted and how far away in time it was known. The network only repairs, and with z = 0 it repairs as well as one call
can. Latents have no range, so nothing clips them. They are standardised by the batch in training and by running
statistics afterwards, which travel with the weights: a diffusion model sees mean 0 and variance 1, and noise of a known
size limits what a latent can tell (a KL, with numbers that begin as small as what is missing is small, silenced it).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from framefill.arrays import Rng, expand
from framefill.diffusion.denoiser import Denoiser
from framefill.errors import BadInput
from framefill.latents.distance import Distance
from framefill.latents.together import follow
from framefill.nets.views import Reader, Teller, ViewPainter

PLANES = 5  # of a view: three colours, trust, distance in time
COLOURS = 3
LEAST_VARIANCE = 1e-12
LOUDER = 10.0  # what is missing from a good guess is a tenth of what is there
FINEST = 1e-3  # distance below which getting better does not count


class Seen(NamedTuple):
    """What is known of a frame: the fused `guess` (B, 3, H, W) and `views` (B, V, 5, H, W): carried frame, trust, time.

    Pixels are in [-1, 1]; trust is in (0, 1], and time the distance from the known frame, in gaps.
    """

    guess: Tensor
    views: Tensor

    def planes(self) -> Tensor:
        """What the stem sees of every view: the view and the guess, (B, V, 8, H, W)."""
        return torch.cat([self.views, _beside(self.guess, self.views)], 2)


class Repairer(nn.Module):
    """The first stage: `latent` channels at 1/8 of the resolution, features of `widths` at 1/2, 1/4 and 1/8.

    In training a share `dropped` of the latents is zero, and the others have noise of a standard deviation of up to
    `roughened`: so the painter holds on to what the views say where a latent is poor.
    """

    def __init__(
        self,
        *,
        latent: int = 6,
        widths: tuple[int, ...] = (32, 64, 128),
        blocks: int = 1,
        dropped: float = 0.15,
        roughened: float = 0.5,
    ):
        super().__init__()
        if latent < 1 or not 0 <= dropped < 1 or roughened < 0:
            raise BadInput(
                f"latent {latent} must be 1 or more, roughened {roughened} not negative, dropped {dropped} in [0, 1)"
            )
        self.latent, self.dropped, self.roughened = latent, dropped, roughened
        self.reader = Reader(PLANES + COLOURS, widths, blocks)
        self.teller = Teller(PLANES + 2 * COLOURS, latent, widths, blocks)
        self.painter = ViewPainter(latent, widths, blocks, channels=COLOURS)
        start = torch.tensor([[0.0], [1.0]]).expand(2, latent).clone()
        self.moments = nn.Parameter(start, requires_grad=False)  # mean and variance, before they are standardised

    def read(self, seen: Seen) -> tuple[Tensor, list[Tensor]]:
        """What the views say, for `paint` and as the condition of a diffusion model (its coarsest features)."""
        return self.reader(seen.planes())

    def encode(self, truth: Tensor, seen: Seen) -> Tensor:
        """Standardised latents (B, latent, H / 8, W / 8) of `truth` (B, 3, H, W) beside what is seen."""
        missing = LOUDER * (truth - seen.guess)
        told = self.teller(torch.cat([seen.planes(), _beside(missing, seen.views)], 2))
        mean, variance = (x[:, None, None] for x in self.moments)
        if self.training and torch.is_grad_enabled():
            mean, variance = told.mean((0, 2, 3), keepdim=True), told.var((0, 2, 3), keepdim=True, correction=0)
            follow(self.moments, torch.stack([mean.flatten(), variance.flatten()]))
        return (told - mean) * (variance + LEAST_VARIANCE).rsqrt()

    def paint(self, seen: Seen, read: tuple[Tensor, list[Tensor]], z: Tensor) -> Tensor:
        """The frame (B, 3, H, W), not clipped, with standardised latents z; 0 says nothing."""
        return self.painter(seen.views, read, z)

    def loss(self, truth: Tensor, seen: Seen, rng: Rng, distance: Distance) -> Tensor:
        """The logarithm of the painted frame's `distance`, per sample (B,).

        The logarithm is what lets every sample count: of films, few pieces are hopeless, and have nearly all the error.
        """
        z = self.encode(truth, seen)
        if self.training:
            z = self._spoilt(z, rng)
        made = self.paint(seen, self.read(seen), z)
        return (distance(made, truth) + FINEST).log()

    def notes(self) -> dict[str, float]:
        """The size of latents before they are standardised."""
        return {"latent_scale": float(self.moments[1].mean().sqrt())}

    def _spoilt(self, z: Tensor, rng: Rng) -> Tensor:
        z = z + expand(rng.uniform((), z) * self.roughened, z) * rng.normal(z.shape[1:], z)
        return z * expand(rng.uniform((), z) >= self.dropped, z)


class LatentRepairer(nn.Module):
    """Both stages: a `repairer`, and from the second on a `denoiser` of its latents; the repairer is then frozen."""

    def __init__(self, repairer: Repairer, denoiser: Denoiser | None = None):
        super().__init__()
        self.repairer, self.denoiser = repairer, denoiser
        if denoiser is not None:
            repairer.requires_grad_(False)


def _beside(picture: Tensor, views: Tensor) -> Tensor:
    """A picture (B, C, H, W) beside every view: (B, V, C, H, W)."""
    return picture[:, None].expand(-1, views.shape[1], -1, -1, -1)
