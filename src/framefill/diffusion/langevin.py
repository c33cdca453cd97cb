"""Langevin samplers: noise is exchanged at every level, not only carried down (thesis 001, sections 2.5.7 and 6.3.7).

Both read the noise estimate and draw through the model's noise, so a covariance Sigma needs no second derivation: with
the drift preconditioned by Sigma, Sigma grad log p = -n_hat / sigma, and the whitened chain is the isotropic one.

Paper: eqs. 6.3.13 and 6.3.14 leave Sigma out of the drift, which samples sigma^2 Sigma^2 in place of sigma^2 Sigma.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from framefill.diffusion.denoiser import Model
from framefill.diffusion.sample import Estimate, History, Sampler, noise_estimate
from framefill.diffusion.schedule import CLEAN, Level
from framefill.errors import BadInput


@dataclass(frozen=True)
class Langevin(Sampler):
    """Annealed Langevin dynamics (Song and Ermon 2020; thesis 001, eqs. 2.5.10 and 6.3.13, corrected).

    At each of `steps` levels `repeats` updates of x_t / alpha_t with step size alpha_i = rate (sigma / alpha)^2, where
    the published epsilon is rate * sigma_min^2; the last update of all is the expected denoised sample instead. The
    rate stays finite, so the samples are too wide: a level (alpha, sigma) whose marginal has variance m in some mode,
    and the noise n there, settles at m / (1 - rate sigma^2 n / (2 m)). `scales.step_size` chooses a rate.

    Meant for geometric scales (`schedule.smld`) with many levels; elsewhere the noise falls faster than it can follow.
    """

    rate: float = field(default=0.06, kw_only=True)
    repeats: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self.rate)
        if self.repeats < 1:
            raise BadInput(f"Langevin needs at least 1 update per level, got repeats = {self.repeats}")

    @property
    def calls(self) -> int:
        """steps * repeats."""
        return self.steps * self.repeats

    def path(self, model: Model) -> list[Level]:
        """Every level `repeats` times, then clean."""
        visited = super().path(model)[:-1]
        return [*(level for level in visited for _ in range(self.repeats)), CLEAN]

    def step(
        self, estimate: Estimate, x_t: Tensor, t: Level, s: Level, history: History, draw: Callable[[], Tensor]
    ) -> Tensor:
        """x_hat + ratio_t ((1 - rate) n_hat + sqrt(2 rate) n'), times alpha_s, ratio = sigma / alpha."""
        x_hat = history[-1][1]
        if s.sigma == 0:
            return s.alpha * x_hat
        # From pure noise there is nothing to scale up: all of it counts as the noise of the next level.
        carried = s.alpha / t.alpha * t.sigma if t.alpha > 0 else s.sigma
        n_hat = noise_estimate(x_t, x_hat, t)
        return s.alpha * x_hat + carried * ((1 - self.rate) * n_hat + math.sqrt(2 * self.rate) * draw())


@dataclass(frozen=True)
class Consistent(Sampler):
    """Consistent annealed sampling (Jolicoeur-Martineau et al. 2021; thesis 001, eqs. 2.5.11 and 6.3.14, corrected).

    The ancestral formula x_s = alpha_s x_hat + sigma_s (sqrt(1 - tau) n_hat + sqrt(tau) n') with sqrt(1 - tau) =
    gamma (1 - rate), gamma = (sigma_t / alpha_t) / (sigma_s / alpha_s): as much fresh noise as an update of Langevin
    with that rate, less what the next level has no room for, so the noise has exactly the variance of its level.
    Where the levels fall faster than the rate follows (rate < 1 - 1 / gamma), no noise is added, as in DDIM.
    """

    rate: float = field(default=0.06, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self.rate)

    def step(
        self, estimate: Estimate, x_t: Tensor, t: Level, s: Level, history: History, draw: Callable[[], Tensor]
    ) -> Tensor:
        """alpha_s x_hat + sigma_s (sqrt(1 - tau) n_hat + sqrt(tau) n')."""
        x_hat = history[-1][1]
        if s.sigma == 0:
            return s.alpha * x_hat
        growth = min(s.log_ratio - t.log_ratio, 700.0)  # the exponential of more is not a number
        kept = min(math.exp(growth) * (1 - self.rate), 1.0)
        noise = kept * noise_estimate(x_t, x_hat, t) + math.sqrt(1 - kept * kept) * draw()
        return s.alpha * x_hat + s.sigma * noise


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise BadInput(f"the rate of Langevin sampling must lie between 0 and 1, got {rate}")
