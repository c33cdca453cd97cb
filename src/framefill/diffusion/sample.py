"""Samplers: from noise to signal in `steps` steps, one loop for all and one short `step` each.

A sampler sees only the clean estimate x_hat and the noise n_hat = (x_t - alpha_t x_hat) / sigma_t, and draws fresh
noise through the model's own `Noise`; the covariance of the noise never appears. The ancestral family is one formula,

    x_s = alpha_s x_hat + sigma_s (sqrt(1 - tau) n_hat + sqrt(tau) n'),

with tau = eta^2 (1 - (ratio_s / ratio_t)^2), ratio = sigma / alpha: DDPM has eta = 1, DDIM eta = 0.
Every sampler lands on the clean level (alpha, sigma) = (1, 0), whatever the schedule's last value is.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.diffusion.denoiser import Model
from framefill.diffusion.schedule import CLEAN, Level, levels
from framefill.errors import BadInput

Estimate = Callable[[Tensor, Level], Tensor]
History = list[tuple[Level, Tensor]]


def noise_estimate(x_t: Tensor, x_hat: Tensor, t: Level) -> Tensor:
    """n_hat = (x_t - alpha_t x_hat) / sigma_t."""
    return (x_t - t.alpha * x_hat) / t.sigma


@dataclass(frozen=True)
class Sampler(ABC):
    """`steps` equal steps in t from `strength` to 0. Members implement `step`.

    A strength below 1 starts with less noise (SDEdit, Meng et al. 2022): what is drawn stays nearer to zero, or to what
    a model's differences are differences to, and differs less than the truth does.
    """

    steps: int
    strength: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise BadInput(f"a sampler needs at least 1 step, got {self.steps}")
        if not 0 < self.strength <= 1:
            raise BadInput(f"strength must lie in (0, 1] (1: from pure noise), got {self.strength}")

    @property
    def calls(self) -> int:
        """Network evaluations of one run."""
        return self.steps

    @abstractmethod
    def step(
        self,
        estimate: Estimate,
        x_t: Tensor,
        t: Level,
        s: Level,
        history: History,
        draw: Callable[[], Tensor],
    ) -> Tensor:
        """x_s from x_t. `history[-1]` is (t, x_hat at t), earlier entries come before; `draw()` is fresh noise."""

    def path(self, model: Model) -> list[Level]:
        """The levels visited: steps + 1 of them, the last one clean."""
        times = torch.linspace(self.strength, 0, self.steps + 1, dtype=torch.float64)[:-1]
        return [*levels(model.schedule, times), CLEAN]

    def trajectory(
        self, model: Model, x: Tensor, cond: Tensor | None, rng: Rng, *, path: list[Level] | None = None
    ) -> Iterator[Tensor]:
        """Yields x after every step, from the noisy `x` (B, ...) at path[0]; the last one is the sample."""

        def estimate(x_t: Tensor, t: Level) -> Tensor:
            times = torch.full((len(x_t),), t.t, dtype=torch.float64, device=x_t.device)
            return model(x_t, times, cond)

        path = self.path(model) if path is None else path
        history: History = []
        for t, s in pairwise(path):
            history = [*history[-2:], (t, estimate(x, t))]
            x = self.step(estimate, x, t, s, history, partial(model.noise.like, x, rng))
            yield x

    @torch.no_grad()
    def __call__(self, model: Model, like: Tensor, cond: Tensor | None, rng: Rng) -> Tensor:
        """A sample with the shape (B, ...), device and dtype of `like`; sample i depends on stream i of `rng` only."""
        start = self.path(model)[0]
        x = start.sigma * model.noise.like(like, rng)
        return deque(self.trajectory(model, x, cond, rng), maxlen=1).pop().to(like.dtype)


@dataclass(frozen=True)
class DDPM(Sampler):
    """Ancestral sampling (thesis 001, eq. 2.4.22 corrected). `variance` in [0, 1] chooses the noise of a step:

    0 is the posterior variance of a known x, beta_tilde = sigma_(t|s)^2 sigma_s^2 / sigma_t^2; 1 is the larger
    beta = sigma_(t|s)^2 = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2, which keeps unit-variance data right
    in few steps on variance-preserving schedules; between them the geometric mean with that
    exponent (Nichol and Dhariwal 2021, eq. 15).
    """

    variance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.variance <= 1:
            raise BadInput(f"DDPM's variance must lie in [0, 1] (0 small, 1 large), got {self.variance}")

    def step(
        self,
        estimate: Estimate,
        x_t: Tensor,
        t: Level,
        s: Level,
        history: History,
        draw: Callable[[], Tensor],
    ) -> Tensor:
        """alpha_s x_hat + sigma_s sqrt(1 - tau) n_hat + the chosen noise; no noise on the last step."""
        x_hat = history[-1][1]
        if s.sigma == 0:
            return s.alpha * x_hat
        large = t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2
        small = large * s.sigma**2 / t.sigma**2
        kept = math.sqrt(max(s.sigma**2 - small, 0.0))
        added = math.sqrt(max(large, 0.0)) ** self.variance * math.sqrt(max(small, 0.0)) ** (1 - self.variance)
        return s.alpha * x_hat + kept * noise_estimate(x_t, x_hat, t) + added * draw()


@dataclass(frozen=True)
class DDIM(Sampler):
    """Song et al. 2021 (thesis 001, eq. 2.4.39 corrected): eta = 0 is deterministic, eta = 1 is DDPM's small variance.

    With eta = 0 it is also Euler's method for the probability-flow ODE, d(x/alpha) = n_hat d(sigma/alpha), in any
    schedule, which is why there is no second class of that name: see `euler`.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise BadInput(f"DDIM's eta must lie in [0, 1] (0 deterministic, 1 ancestral), got {self.eta}")

    def step(
        self,
        estimate: Estimate,
        x_t: Tensor,
        t: Level,
        s: Level,
        history: History,
        draw: Callable[[], Tensor],
    ) -> Tensor:
        """alpha_s x_hat + sigma_s (sqrt(1 - tau) n_hat + sqrt(tau) n')."""
        x_hat = history[-1][1]
        n_hat = noise_estimate(x_t, x_hat, t)
        if self.eta == 0 or s.sigma == 0:
            return s.alpha * x_hat + s.sigma * n_hat
        tau = self.eta**2 * -math.expm1(2 * (t.log_ratio - s.log_ratio))
        return s.alpha * x_hat + s.sigma * (math.sqrt(1 - tau) * n_hat + math.sqrt(tau) * draw())


def euler(steps: int) -> DDIM:
    """Euler's method for the probability-flow ODE: the same step as deterministic DDIM."""
    return DDIM(steps)


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method for the probability-flow ODE (Karras et al. 2022, algorithm 1): second order, two calls per step.

    Paper: EDM takes the trapezoidal rule in sigma / alpha, which is infinite where alpha = 0 and made cosine schedules
    diverge (std 44 instead of 1 in 10 steps on N(0, 1)). Here it is taken in the angle atan(sigma / alpha), bounded on
    every schedule. The last step, onto sigma = 0, is an Euler step and needs one call.
    """

    @property
    def calls(self) -> int:
        """2 steps - 1."""
        return 2 * self.steps - 1

    def step(
        self,
        estimate: Estimate,
        x_t: Tensor,
        t: Level,
        s: Level,
        history: History,
        draw: Callable[[], Tensor],
    ) -> Tensor:
        """The Euler step, plus half the turn of the angle times the change of the clean estimate."""
        x_hat = history[-1][1]
        x_s = s.alpha * x_hat + s.sigma * noise_estimate(x_t, x_hat, t)
        if s.sigma == 0:
            return x_s
        turn = math.atan2(t.sigma, t.alpha) - math.atan2(s.sigma, s.alpha)
        return x_s + (s.alpha**2 + s.sigma**2) * turn / (2 * s.sigma) * (estimate(x_s, s) - x_hat)


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order at one call per step, from the last two estimates.

    The clean estimate is extrapolated linearly in log(alpha / sigma) to the middle of the step; the first step, and
    the last one onto sigma = 0, have no such middle and are first order.
    """

    def step(
        self,
        estimate: Estimate,
        x_t: Tensor,
        t: Level,
        s: Level,
        history: History,
        draw: Callable[[], Tensor],
    ) -> Tensor:
        """The DDIM step with x_hat + (x_hat - x_hat_before) h / (2 h_before) in place of x_hat."""
        x_hat = history[-1][1]
        if len(history) > 1 and s.sigma > 0:
            before, x_before = history[-2]
            if t.log_ratio > before.log_ratio:  # equal where a discrete schedule stood still
                ahead = (s.log_ratio - t.log_ratio) / (2 * (t.log_ratio - before.log_ratio))
                x_hat = x_hat + ahead * (x_hat - x_before)
        return s.alpha * x_hat + s.sigma * noise_estimate(x_t, x_hat, t)
