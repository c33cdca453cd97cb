"""The denoiser: network + schedule + target + noise = an estimate x_hat of the clean signal at any noise level.

Its loss is w(snr) |whiten(x_hat - x)|^2 for any weight w; epsilon, v, x and EDM losses are choices of w, so what the
network predicts (target) and what it is trained for (weight) are independent.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from framefill.arrays import Rng, expand
from framefill.diffusion.noise import Noise, White
from framefill.diffusion.schedule import Schedule, signal_to_noise
from framefill.diffusion.target import Target
from framefill.diffusion.weight import Weight

Label = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(t, alpha sigma_data, sigma), each (B,), to the number (B,) in [0, 1000] that tells the network the noise level."""


class Model(Protocol):
    """What a sampler or a guidance needs: a clean estimate, and the process it belongs to."""

    schedule: Schedule
    noise: Noise

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """The clean estimate for x_t (B, ...) at times t (B,) under the condition, same shape as x_t."""
        ...


def angle_label(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """1000 (1 - (2 / pi) atan(sigma / alpha)): depends on the noise level only, so the schedule may be replaced."""
    return 1000 * (1 - (2 / torch.pi) * torch.atan2(sigma, alpha))


def table_label(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """1000 (1 - t): MCVD's integer label of the 1000-step table, 0 = most noise (facts, section 1.2)."""
    return 1000 * (1 - t)


def blind_label(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """0 at every level: an unconditional score s(x) / sigma, from a network that must see the level in its input.

    With it belongs the input `unscaled`, whose size tells sigma. Paper: thesis 001, section 6.3.13, multiplies what
    such a network says by a harmonic mean over sigma; the size of x already tells sigma in any dimension that matters
    (sigma E[1 / sigma | x] = 0.9999 for D = 3072), so nothing is multiplied here.
    """
    return torch.zeros_like(t)


Scaling = Callable[[Tensor, Tensor], Tensor]
"""(alpha sigma_data, sigma), broadcastable to x_t, to the factor of the network's input."""


def unit_variance(alpha: Tensor, sigma: Tensor) -> Tensor:
    """1 / sqrt(alpha^2 + sigma^2): data of standard deviation sigma_data reach the network with variance 1."""
    return (alpha * alpha + sigma * sigma).rsqrt()


def unscaled(alpha: Tensor, sigma: Tensor) -> Tensor:
    """1: the network sees x_t itself."""
    return torch.ones_like(sigma)


Space = Callable[[Noise, Tensor], Tensor]
"""(noise, x_hat - x) to the error that is squared: the loss weights of thesis 001, section 6.2.5."""


def whitened(noise: Noise, error: Tensor) -> Tensor:
    """Weight (a), lambda = (1 - alpha^2) Sigma on the score: |eps - eps_hat|^2 of white eps (eq. 6.2.12)."""
    return noise.whiten(error)


def twice_whitened(noise: Noise, error: Tensor) -> Tensor:
    """Weight (b), lambda = 1 - alpha^2: the score itself, |sqrt(Sigma)^-1 (eps - eps_hat)|^2 (eq. 6.2.13)."""
    return noise.whiten(noise.whiten(error))


def plain(noise: Noise, error: Tensor) -> Tensor:
    """Weight (c): the noise as it is, |sqrt(Sigma) (eps - eps_hat)|^2 (eq. 6.2.14).

    Paper: eq. 6.2.10 states lambda proportional to Sigma; what it writes out has Sigma^2, and so has this.
    """
    return error


class Denoiser(nn.Module):
    """A clean estimate from a network(x, label, cond) that answers the target; final, extended only by wrapping.

    `scaling` with `sigma_data` brings the network's input to unit variance: x_t / sqrt(alpha^2 sigma_data^2 + sigma^2),
    which is x_t itself for variance-preserving schedules and sigma_data = 1.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        target: Target,
        *,
        noise: Noise | None = None,
        label: Label = angle_label,
        sigma_data: float = 1.0,
        scaling: Scaling = unit_variance,
    ):
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.target = target
        self.noise = noise or White()
        self.label = label
        self.sigma_data = sigma_data
        self.scaling = scaling

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The clean estimate x_hat of x_t (B, ...) at times t (B,); computed in float32 or better."""
        alpha, sigma = self.schedule(t)
        label = self.label(t, alpha * self.sigma_data, sigma)
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        a, s = expand(alpha, x_t).to(dtype), expand(sigma, x_t).to(dtype)
        scale = self.scaling(a * self.sigma_data, s)
        answer = self.network((x_t * scale).to(x_t.dtype), label.to(dtype), cond)
        return self.target.to_x(answer.to(dtype), x_t.to(dtype), a, s)

    def loss(
        self,
        x: Tensor,
        t: Tensor,
        cond: Tensor | None,
        weight: Weight,
        rng: Rng,
        *,
        counted: Tensor | None = None,
        space: Space = whitened,
    ) -> Tensor:
        """Weighted mean squared error per sample, (B,), for clean x (B, ...) noised to times t (B,).

        With weight `snr`, the spaces `whitened`, `twice_whitened` and `plain` are (a), (b) and (c) of section 6.2.5.

        `counted` (broadcastable to x, 0 or 1) leaves elements out of the mean, e.g. frames that are given anyway.
        """
        alpha, sigma = self.schedule(t)
        a, s = expand(alpha, x).to(x.dtype), expand(sigma, x).to(x.dtype)
        x_t = a * x + s * self.noise.like(x, rng)
        error = space(self.noise, self(x_t, t, cond) - x).square()
        w = weight(signal_to_noise(alpha, sigma)).to(error.dtype)
        if counted is None:
            return w * error.flatten(1).mean(1)
        counted = counted.expand_as(error)
        return w * (error * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)
