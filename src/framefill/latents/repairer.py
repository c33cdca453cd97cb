"""A frame that is nearly known, and the small latent that tells what is missing: seen with the truth, drawn without it.

      first stage    z ~ N(mean, variance)(truth, views)     frame = painter(views, z)     loss + weight KL
      second stage   z from a diffusion model, given what the views say; the painter is frozen

Views are known frames that were carried to the time wanted (see video/between/warp.py), each with how far it can be
trusted and how far away in time it was known. The network only repairs, and with z = 0 it repairs as well as one call
can. Latents have no range, so nothing clips them; they are divided by their root mean square, which travels with the
weights, so that a diffusion model sees variance 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from framefill.arrays import Rng, expand
from framefill.diffusion.denoiser import Denoiser
from framefill.errors import BadInput
from framefill.latents.distance import Distance
from framefill.latents.kl import divergence
from framefill.latents.together import add_up, processes
from framefill.nets.views import Painter, Reader, Teller

PLANES = 5  # of a view: three colours, trust, distance in time
COLOURS = 3
FOLLOW = 0.01  # share of a new batch in the running mean square
LEAST_SQUARE = 1e-4
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

    In training a share `dropped` of the latents is zero, and the others are noisier than they were drawn, by up to
    `roughened` of their root mean square: so the painter holds on to what the views say where a latent is poor.
    """

    def __init__(
        self,
        *,
        latent: int = 6,
        widths: tuple[int, ...] = (32, 64, 128),
        blocks: int = 1,
        weight: float = 1e-2,
        dropped: float = 0.2,
        roughened: float = 0.5,
    ):
        super().__init__()
        if latent < 1 or weight < 0 or not 0 <= dropped < 1 or roughened < 0:
            raise BadInput(
                f"latent {latent} must be 1 or more, the KL's weight {weight} and roughened {roughened} not negative, "
                f"and dropped {dropped} in [0, 1)"
            )
        self.latent, self.weight, self.dropped, self.roughened = latent, weight, dropped, roughened
        self.reader = Reader(PLANES + COLOURS, widths, blocks)
        self.teller = Teller(PLANES + 2 * COLOURS, latent, widths, blocks)
        self.painter = Painter(latent, widths, blocks, channels=COLOURS)
        self.square = nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("nats", torch.zeros(()), persistent=False)
        self.nats: Tensor

    @property
    def scale(self) -> Tensor:
        """The root mean square of latents before they are standardised."""
        return self.square.clamp(min=LEAST_SQUARE).sqrt()

    def read(self, seen: Seen) -> tuple[Tensor, list[Tensor]]:
        """What the views say, for `paint` and as the condition of a diffusion model (its coarsest features)."""
        return self.reader(seen.planes())

    def gaussian(self, truth: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latent, H / 8, W / 8) of the latents of `truth` (B, 3, H, W), not standardised."""
        return self.teller(torch.cat([seen.planes(), _beside(truth - seen.guess, seen.views)], 2))

    def encode(self, truth: Tensor, seen: Seen) -> Tensor:
        """Standardised latents of `truth` beside what is seen."""
        return self.gaussian(truth, seen)[0] / self.scale

    def paint(self, seen: Seen, read: tuple[Tensor, list[Tensor]], z: Tensor) -> Tensor:
        """The frame (B, 3, H, W), not clipped, with standardised latents z; 0 says nothing."""
        return self.painter(seen.views, read, z * self.scale)

    def loss(self, truth: Tensor, seen: Seen, rng: Rng, distance: Distance) -> Tensor:
        """The logarithm of the painted frame's `distance`, plus the weighted KL per pixel, per sample (B,).

        The logarithm is what lets every sample count: of films, few pieces are hopeless, and have nearly all the error.
        """
        mean, log_variance = self.gaussian(truth, seen)
        nats, z = divergence(mean, log_variance), mean
        if self.training:
            z = self._drawn(mean, log_variance, rng)
            self._follow(mean)
            self.nats.copy_(nats.detach().mean() / truth[0, 0].numel())
        made = self.painter(seen.views, self.read(seen), z)
        return (distance(made, truth) + FINEST).log() + self.weight * nats / truth[0, 0].numel()

    def notes(self) -> dict[str, float]:
        """The KL of the last batch, in nats per pixel, and the root mean square of latents."""
        return {"kl": float(self.nats), "latent_scale": float(self.scale)}

    def _drawn(self, mean: Tensor, log_variance: Tensor, rng: Rng) -> Tensor:
        z = mean + (log_variance / 2).exp() * rng.normal(mean.shape[1:], mean)
        z = z + expand(rng.uniform((), mean) * self.roughened * self.scale, z) * rng.normal(mean.shape[1:], mean)
        return z * expand(rng.uniform((), mean) >= self.dropped, z)

    @torch.no_grad()
    def _follow(self, mean: Tensor) -> None:
        seen = mean.float().square().mean() / processes()
        add_up(seen)
        if bool(seen.isfinite()):
            self.square.lerp_(seen, FOLLOW)


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
