"""Improved DDPM (Nichol and Dhariwal 2021): a learned variance, the bound it is trained with, and which steps to train.

The variance of an ancestral step lies between the posterior's and the transition's, small <= large; a network says
where, per element: log variance = (1 - v) log small + v log large, v in [0, 1] (eq. 15). The mean is learned by the
plain loss, v by the variational bound, with the mean held fixed there: L_simple + lambda L_vlb (eq. 16).
With noise of covariance Sigma both variances multiply Sigma, and v belongs to the whitened signal.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from framefill.arrays import Rng, expand
from framefill.diffusion.denoiser import Denoiser, Model
from framefill.diffusion.noise import Noise, White
from framefill.diffusion.sample import Estimate, History, Sampler, noise_estimate
from framefill.diffusion.schedule import Level, signal_to_noise
from framefill.diffusion.weight import Weight
from framefill.errors import BadInput


def step_variances(alpha: Tensor, sigma: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> tuple[Tensor, Tensor]:
    """(small, large) of the step from (alpha, sigma) to the cleaner (alpha_s, sigma_s), as multiples of Sigma.

    large = sigma^2 - (alpha / alpha_s)^2 sigma_s^2 of x_t given x_s, small = large sigma_s^2 / sigma^2 of x_s given
    x_t and x. Any broadcastable shapes.
    """
    large = sigma**2 - (alpha / alpha_s * sigma_s) ** 2
    return large * (sigma_s / sigma) ** 2, large


def between(v: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """The log variance (1 - v) log small + v log large."""
    return torch.lerp(small.log().expand_as(v), large.log().expand_as(v), v)


def step_divergence(
    error: Tensor, v: Tensor, signal: Tensor, small: Tensor, large: Tensor, *, bits: bool = True
) -> Tensor:
    """KL(q(x_s | x_t, x) || p(x_s | x_t)) per element, in bits unless `bits` is False.

    `error` is the whitened x_hat - x; `signal` is the factor of x in the mean of the step, so the means differ by
    signal * error: alpha_s large / sigma_t^2, which is alpha_s (1 - (ratio_s / ratio_t)^2).
    """
    log_variance, log_small = between(v, small, large), small.log()
    excess = (log_small - log_variance).exp() - 1 + (signal * error) ** 2 * (-log_variance).exp()
    divergence = (log_variance - log_small + excess) / 2
    return divergence / math.log(2) if bits else divergence


class Learned(Denoiser):
    """A denoiser whose network answers twice the channels on axis 1: the target, then v as a number in [-1, 1]."""

    def both(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The clean estimate and v in [0, 1] for x_t (B, ...), t (B,), each of the shape of x_t."""
        alpha, sigma = self.schedule(t)
        dtype = torch.promote_types(x_t.dtype, torch.float32)
        a, s = expand(alpha, x_t).to(dtype), expand(sigma, x_t).to(dtype)
        label = self.label(t, alpha * self.sigma_data, sigma).to(dtype)
        scaled = (x_t * self.scaling(a * self.sigma_data, s)).to(x_t.dtype)
        answer = self.network(scaled, label, cond).to(dtype)
        if answer.shape[1] != 2 * x_t.shape[1]:
            raise BadInput(
                f"a learned variance needs a network with {2 * x_t.shape[1]} channels out, got {answer.shape[1]}"
            )
        said, v = answer.chunk(2, 1)
        return self.target.to_x(said, x_t.to(dtype), a, s), ((v + 1) / 2).clamp(0, 1)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """The clean estimate alone, for every sampler and guidance."""
        return self.both(x_t, t, cond)[0]

    def hybrid(
        self, x: Tensor, t: Tensor, cond: Tensor | None, weight: Weight, rng: Rng, *, steps: int, share: float = 1e-3
    ) -> Tensor:
        """weight |x_hat - x|^2 + share * steps * L_t, means per element, (B,), for t (B,) in {1/steps, ..., 1}.

        L_t in bits is `bound`'s term; its gradient reaches v only, as the mean is detached there. share * steps * L_t
        has the expectation share * L_vlb, so the published 0.001 is 1e-3.
        """
        alpha, sigma = self.schedule(t)
        a, s = expand(alpha, x).to(x.dtype), expand(sigma, x).to(x.dtype)
        x_hat, v = self.both(a * x + s * self.noise.like(x, rng), t, cond)
        error = self.noise.whiten(x_hat - x)
        plain = weight(signal_to_noise(alpha, sigma)).to(error.dtype) * error.square().flatten(1).mean(1)
        return plain + share * steps * self._term(error.detach(), v, t, steps)

    def bound(self, x: Tensor, t: Tensor, cond: Tensor | None, rng: Rng, *, steps: int) -> Tensor:
        """The term L_t of the variational bound at times t (B,) in {1/steps, ..., 1}, bits per dimension, (B,).

        Its sum over all steps, with the prior's, bounds the code length of x. The last step, onto t = 0, counts as one
        onto the noise that is there; where the schedule has none (`ddpm`), it is the Gaussian log-density of x with
        the smallest variance of any step, a density and not a probability: see `likelihood.bits_per_dimension`.
        """
        alpha, sigma = self.schedule(t)
        a, s = expand(alpha, x).to(x.dtype), expand(sigma, x).to(x.dtype)
        x_hat, v = self.both(a * x + s * self.noise.like(x, rng), t, cond)
        return self._term(self.noise.whiten(x_hat - x), v, t, steps)

    def _term(self, error: Tensor, v: Tensor, t: Tensor, steps: int) -> Tensor:
        now, before = self.schedule(t), self.schedule((t - 1 / steps).clamp(min=0))
        a, s, a_s, s_s = (expand(value, error) for value in (*now, *before))
        small, large = step_variances(a, s, a_s, s_s)
        signal = (a_s * large / s**2).to(error.dtype)
        final = small == 0
        # IDDPM clips the vanishing posterior variance of the last step at that of the step before.
        floor = _smallest(self, steps, error)
        small, large = torch.where(final, floor, small).to(error.dtype), large.to(error.dtype)
        divergence = step_divergence(error, v, signal, small, large)
        log_variance = between(v, small, large)
        density = (log_variance + math.log(2 * math.pi) + error**2 * (-log_variance).exp()) / (2 * math.log(2))
        return torch.where(final, density, divergence).flatten(1).mean(1)


def _smallest(model: Model, steps: int, like: Tensor) -> Tensor:
    """The posterior variance of the step from 2 / steps to 1 / steps."""
    times = torch.tensor([2.0, 1.0], dtype=torch.float64, device=like.device) / steps
    alpha, sigma = model.schedule(times.clamp(max=1))
    return step_variances(alpha[0], sigma[0], alpha[1], sigma[1])[0]


class _Both:
    """A model whose estimate is the clean estimate and v, stacked on axis 1."""

    def __init__(self, model: Learned):
        self.model, self.schedule, self.noise = model, model.schedule, model.noise

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return torch.cat(self.model.both(x_t, t, cond), 1)


@dataclass(frozen=True)
class LearnedDDPM(Sampler):
    """`DDPM` with the variance that a `Learned` model says, element by element of the whitened noise.

    `noise` is filled in from the model. For few steps: v is learned for all steps but meant for the steps trained.
    """

    noise: Noise = field(default=White(), kw_only=True, repr=False)

    def trajectory(
        self, model: Model, x: Tensor, cond: Tensor | None, rng: Rng, *, path: list[Level] | None = None
    ) -> Iterator[Tensor]:
        """As for every sampler."""
        if not isinstance(model, Learned):
            raise BadInput(f"LearnedDDPM needs a model with a learned variance, got {type(model).__name__}; use DDPM")
        sampler = replace(self, noise=model.noise)
        yield from Sampler.trajectory(sampler, _Both(model), x, cond, rng, path=path)

    def step(
        self, estimate: Estimate, x_t: Tensor, t: Level, s: Level, history: History, draw: Callable[[], Tensor]
    ) -> Tensor:
        """The mean of `DDPM`, and its noise with the learned variance; no noise on the last step."""
        x_hat, v = history[-1][1].chunk(2, 1)
        if s.sigma == 0:
            return s.alpha * x_hat
        alpha, sigma, alpha_s, sigma_s = (torch.tensor(n, dtype=torch.float64) for n in (*t[1:], *s[1:]))
        small, large = step_variances(alpha, sigma, alpha_s, sigma_s)
        kept = math.sqrt(max(s.sigma**2 - small.item(), 0.0))
        spread = (between(v, small.to(v), large.to(v)) / 2).exp()
        added = self.noise.color(spread * self.noise.whiten(draw()))
        return s.alpha * x_hat + kept * noise_estimate(x_t, x_hat, t) + added


class LossAware:
    """Training times drawn where the loss is large (Nichol and Dhariwal 2021, eq. 18): p_k ~ sqrt(E[L_k^2]).

    The mean of weight * loss over the times drawn is the mean of the loss over uniform times, with less noise. Each of
    `steps` times keeps its last `history` losses; until every one has that many, times are uniform. A share `uniform`
    of the draws always is, so that no time is forgotten.
    """

    def __init__(self, steps: int, *, history: int = 10, uniform: float = 1e-3):
        if steps < 1 or history < 1 or not 0 < uniform <= 1:
            raise BadInput(
                "loss-aware times need steps >= 1, history >= 1 and uniform in (0, 1], "
                f"got {steps}, {history}, {uniform}"
            )
        self.steps, self.history, self.uniform = steps, history, uniform
        self._losses: list[deque[float]] = [deque(maxlen=history) for _ in range(steps)]

    @property
    def warm(self) -> bool:
        """Whether every time has its history."""
        return all(len(losses) == self.history for losses in self._losses)

    def probabilities(self) -> Tensor:
        """The chance of each time 1/steps, 2/steps, ..., 1, float64 (steps,)."""
        even = torch.full((self.steps,), 1 / self.steps, dtype=torch.float64)
        if not self.warm:
            return even
        root = torch.tensor([list(losses) for losses in self._losses], dtype=torch.float64).square().mean(1).sqrt()
        return torch.lerp(root / root.sum(), even, self.uniform) if root.sum() > 0 else even

    def times(self, rng: Rng) -> tuple[Tensor, Tensor]:
        """Times t (B,) and the weights (B,) to multiply their losses by, 1 / (steps p)."""
        p = self.probabilities()
        place = torch.searchsorted(p.cumsum(0), rng.uniform().double(), right=True).clamp(max=self.steps - 1)
        return (1 + place).double() / self.steps, 1 / (self.steps * p[place])

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remember unweighted losses (B,) seen at times t (B,); losses that are not finite are passed over."""
        places = (t.double() * self.steps).round().long() - 1
        for place, loss in zip(places.tolist(), losses.detach().double().tolist(), strict=True):
            if math.isfinite(loss):
                self._losses[place].append(loss)
