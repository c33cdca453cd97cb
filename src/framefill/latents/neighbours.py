"""Latent diffusion for the frame in the middle, as seed 004 has it: its neighbours' latents stand beside the noise.

      z_i = E(x_i)        eps_hat = network(z_0, z_1^t, z_2; t)        x_1 = D(z_1)

The autoencoder is frozen. Latents are standardised and nothing clips them: seed 004's program clips every estimate of
z_1 to [-1, 1], which is what made its frames pale green and black (facts, section 5).
"""

import torch
from torch import Tensor, nn

from framefill.diffusion.denoiser import Denoiser
from framefill.latents.autoencoder import Autoencoder


class Neighbours(nn.Module):
    """A network of (B, 3 C, h, w) -> (B, C, h, w) as one of x and a condition (B, 2 C, h, w): first, x, last."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, label: Tensor, cond: Tensor) -> Tensor:
        """x (B, C, h, w) between the two halves of `cond`."""
        first, last = cond.to(x.dtype).chunk(2, 1)
        return self.network(torch.cat([first, x, last], 1), label)


class Middle(nn.Module):
    """A frozen autoencoder and the denoiser of the middle one of three latents."""

    def __init__(self, autoencoder: Autoencoder, denoiser: Denoiser):
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False)
        self.denoiser = denoiser

    def encoded(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Of triplets (B, 3, C, H, W) in [-1, 1], the middle latents (B, c, h, w), and the condition (B, 2 c, h, w)."""
        with torch.no_grad():
            z = self.autoencoder.encode(frames.flatten(0, 1)).float().unflatten(0, frames.shape[:2])
        return z[:, 1], torch.cat([z[:, 0], z[:, 2]], 1)
