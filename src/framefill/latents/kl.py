"""KL-VAE: an autoencoder with smooth latents, held near a standard normal by a small weight (Rombach et al. 2022).

      z ~ N(mu, exp(l))         KL = 1/2 sum(mu^2 + exp(l) - 1 - l)

Their reconstruction error is a sum over pixels, ours a mean, so the KL is divided by the number of pixels too: their
weights keep their meaning.
"""

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.autoencoder import Autoencoder, Layout

LOG_VARIANCES = (-30.0, 20.0)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) | N(0, 1)) in nats, summed over all but the first axis: (B,)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / 2


class KLVAE(Autoencoder):
    """An autoencoder with Gaussian latents; `encode` gives their means. `weight` is the KL's."""

    def __init__(self, layout: Layout, *, weight: float = 1e-6):
        super().__init__(layout, per_latent=2)
        if weight < 0:
            raise BadInput(f"the weight of the KL must not be negative, got {weight}")
        self.weight = weight
        self.register_buffer("nats", torch.zeros(()), persistent=False)
        self.nats: Tensor

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents of x (B, channels, H, W), not standardised."""
        mean, log_variance = super()._code(x).chunk(2, 1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def reconstruct(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """As in `Autoencoder`: from a draw, in training, or the mean; the penalty is the weighted KL."""
        mean, log_variance = self.gaussian(x)
        nats, z = divergence(mean.float(), log_variance.float()), mean
        if self.training:
            z = mean + (log_variance / 2).exp() * rng.normal(mean.shape[1:], mean).to(mean.dtype)
            self._follow(mean)
            self.nats.copy_(nats.detach().mean())
        return self._picture(z), self.weight * nats / x[0].numel()

    def notes(self) -> dict[str, float]:
        """The KL of the last batch, in nats per picture."""
        return {"kl": float(self.nats)}

    def _code(self, x: Tensor) -> Tensor:
        return self.gaussian(x)[0]
