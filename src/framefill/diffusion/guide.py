"""Guidance: a denoiser wrapped in a denoiser, so that every sampler works with every guidance.

Here are the wrappers that need nothing but the model; what was observed of the signal guides in `observe`. Wrappers go
around each other: a guidance by observations around ClassifierFree, which asks its model twice, and not inside it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from framefill.arrays import expand
from framefill.diffusion.denoiser import Model
from framefill.errors import BadInput


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
    from one call on a doubled batch. Large scales give estimates of too large a spread; `rescale` in [0, 1] brings a
    share of it back to that of x_cond, sample by sample (Lin et al. 2024, section 3.4; they take 0.7).

    Paper: Lin et al. rescale what the network answers, a velocity; here it is the clean estimate, whatever the target.
    """

    def __init__(
        self,
        model: Model,
        scale: float,
        *,
        null: Callable[[Tensor], Tensor] = torch.zeros_like,
        rescale: float = 0.0,
    ):
        super().__init__(model)
        if not math.isfinite(scale):
            raise BadInput(f"the scale of guidance must be finite (1: the plain conditional model), got {scale}")
        if not 0 <= rescale <= 1:
            raise BadInput(f"rescale must lie in [0, 1] (0: plain guidance), got {rescale}")
        self.scale = scale
        self.null = null
        self.rescale = rescale

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The guided clean estimate."""
        if cond is None:
            raise BadInput("classifier-free guidance needs a condition, got None; use the model inside without it")
        both = self.model(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([cond, self.null(cond)]))
        x_cond, x_null = both.chunk(2)
        guided = x_null + self.scale * (x_cond - x_null)
        return guided * self._shrink(x_cond, guided) if self.rescale else guided

    def _shrink(self, x_cond: Tensor, guided: Tensor) -> Tensor:
        """rescale std(x_cond) / std(guided) + 1 - rescale per sample; estimates without any spread stay."""
        wanted, found = (expand(x.flatten(1).std(1, correction=0), x) for x in (x_cond, guided))
        ratio = torch.where(found > 0, wanted / found.where(found > 0, 1), 1)
        return self.rescale * ratio + (1 - self.rescale)


class Limited(Wrapper):
    """A guidance that acts at noise levels low < sigma / alpha <= high only; elsewhere the model inside it is asked.

    At high noise guidance drives all samples to one, at low noise it does nothing but cost (Kynkaanniemi et al.
    2024). sigma / alpha is EDM's sigma for data of unit scale, whatever the schedule.
    """

    def __init__(self, guided: Wrapper, low: float = 0.0, high: float = math.inf):
        super().__init__(guided)
        if not 0 <= low < high:
            raise BadInput(f"noise levels of guidance need 0 <= low < high, got {low} and {high}")
        if not isinstance(guided, Wrapper):
            raise BadInput(f"only a guidance can be limited, got {type(guided).__name__}; wrap the model in one first")
        self.plain = guided.model
        self.low, self.high = low, high

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The guided estimate where the level of a sample lies in the interval, else the plain one."""
        alpha, sigma = self.schedule(t)
        ratio = sigma / alpha
        inside = (ratio > self.low) & (ratio <= self.high)
        if inside.all():
            return self.model(x_t, t, cond)
        plain = self.plain(x_t, t, cond)
        if not inside.any():
            return plain
        return torch.where(expand(inside, x_t), self.model(x_t, t, cond), plain)


class Clipped(Wrapper):
    """The estimate clamped to the range of the data, as in DDPM's and MCVD's samplers (facts, section 1.4)."""

    def __init__(self, model: Model, low: float = -1.0, high: float = 1.0):
        super().__init__(model)
        self.low, self.high = low, high

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The clean estimate, clamped."""
        return self.model(x_t, t, cond).clamp(self.low, self.high)
