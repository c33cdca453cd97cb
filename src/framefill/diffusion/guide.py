"""Guidance: a denoiser wrapped in a denoiser, so that every sampler works with every guidance."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from framefill.diffusion.denoiser import Model


class Wrapper(nn.Module):
    """Base of the wrappers: a model with the schedule and the noise of the model inside."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model
        self.schedule = model.schedule
        self.noise = model.noise


class ClassifierFree(Wrapper):
    """x_hat = x_null + scale (x_cond - x_null) (Ho and Salimans 2022): scale 1 is the plain conditional model.

    `null(cond)` is the condition that says nothing, which training must have shown the model. Both estimates come
    from one call on a doubled batch.
    """

    def __init__(self, model: Model, scale: float, *, null: Callable[[Tensor], Tensor] = torch.zeros_like):
        super().__init__(model)
        self.scale = scale
        self.null = null

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """The guided clean estimate."""
        both = self.model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([cond, self.null(cond)]))
        x_cond, x_null = both.chunk(2)
        return x_null + self.scale * (x_cond - x_null)


class Clipped(Wrapper):
    """The estimate clamped to the range of the data, as in DDPM's and MCVD's samplers (facts, section 1.4)."""

    def __init__(self, model: Model, low: float = -1.0, high: float = 1.0):
        super().__init__(model)
        self.low, self.high = low, high

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The clean estimate, clamped."""
        return self.model(x_t, t, cond).clamp(self.low, self.high)
