"""Consistency models: one call from any noise level to the clean end of the probability flow, for few-step sampling.

The probability-flow ODE joins x_t to one point x_e at the clean end e. The consistency function is f(x_t, t) = x_e /
alpha_e, the same along all of its path and the identity at e (Song et al. 2023). Learned with a clean estimate x_hat,

    f(x_t, t) = c_skip x_t + c_out x_hat,   c_skip = ratio_e / sigma_t,   c_out = 1 - alpha_t c_skip,

ratio = sigma / alpha. That is x_hat + ratio_e n_hat, one DDIM step to e: right to first order near the end with the
teacher's own weights, and bounded in every schedule, where alpha_t = 0 too. At e, c_skip = 1 / alpha_e and c_out = 0.

Paper: Song et al. have alpha = 1 and a bare network, c_skip = d^2 / ((sigma - e)^2 + d^2) and c_out growing linearly
from 0. A clean estimate with those two would have to be 1 / sigma times too large near the end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from framefill.arrays import Rng, expand
from framefill.diffusion.denoiser import Model
from framefill.diffusion.guide import Wrapper
from framefill.diffusion.sample import Estimate, History, Sampler
from framefill.diffusion.schedule import Level, levels
from framefill.errors import BadInput


class Consistency(Wrapper):
    """f(x_t, t) around a model of clean estimates; see the module. It has no parameters of its own.

    `end` is the clean end, by default where the schedule has t = 0. With `schedule.CLEAN` it is the signal itself, as
    for samplers: f is then x_hat, and the identity at t = 0 only.
    """

    def __init__(self, model: Model, end: Level | None = None):
        super().__init__(model)
        self.end = levels(model.schedule, torch.zeros(1, dtype=torch.float64))[0] if end is None else end
        if not 0 <= self.end.t < 1 or self.end.alpha <= 0:
            raise BadInput(f"the clean end needs 0 <= t < 1 and alpha > 0, got {self.end}; give one of the schedule's")

    @property
    def left(self) -> float:
        """sigma / alpha of the noise that f still has: what `Multistep` must know."""
        return self.end.sigma / self.end.alpha

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """f of x_t (B, ...) at times t (B,); x_t / alpha at the end and before it."""
        alpha, sigma = self.schedule(t)
        there = t <= self.end.t
        skip = torch.where(there, 1 / self.end.alpha, self.left / sigma)
        out = torch.where(there, 0.0, 1 - alpha * skip)
        x_hat = self.model(x_t, t, cond)
        return expand(skip, x_hat).to(x_hat.dtype) * x_t + expand(out, x_hat).to(x_hat.dtype) * x_hat


@dataclass(frozen=True)
class Multistep(Sampler):
    """Jumps to the end and back (Song et al. 2023, algorithm 1): x_s = alpha_s f + fresh noise of variance sigma_s^2.

    Exact in any number of steps for an exact f, so made for a `Consistency`; of the other models it takes x_hat for f
    and draws too little variety. `left` is sigma / alpha of the noise that f still has (`Consistency.left`).
    """

    left: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.left < math.inf:
            raise BadInput(f"the noise that is left must be 0 or more and finite, got {self.left}")

    def step(
        self, estimate: Estimate, x_t: Tensor, t: Level, s: Level, history: History, draw: Callable[[], Tensor]
    ) -> Tensor:
        """alpha_s f + sqrt(sigma_s^2 - alpha_s^2 left^2) n'; f itself on the last step."""
        f = history[-1][1]
        if s.sigma == 0:
            return s.alpha * f
        return s.alpha * f + math.sqrt(max(s.sigma**2 - (s.alpha * self.left) ** 2, 0.0)) * draw()


# ---- learning it -----------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where the samples of a batch are on a schedule: t (B,), alpha and sigma ready to multiply them by."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor


Solver = Callable[[Callable[[Tensor, Place], Tensor], Tensor, Place, Place], Tensor]
"""(estimate, x_t, t, s) to x_s: one step of the probability flow, every sample between its own two levels."""


def first_order(estimate: Callable[[Tensor, Place], Tensor], x_t: Tensor, t: Place, s: Place) -> Tensor:
    """The step of `DDIM`."""
    return _straight(estimate(x_t, t), x_t, t, s)


def second_order(estimate: Callable[[Tensor, Place], Tensor], x_t: Tensor, t: Place, s: Place) -> Tensor:
    """The step of `Heun`: as there, first order onto sigma = 0."""
    x_hat = estimate(x_t, t)
    x_s = _straight(x_hat, x_t, t, s)
    turn = torch.atan2(t.sigma, t.alpha) - torch.atan2(s.sigma, s.alpha)
    noisy = s.sigma > 0
    size = torch.where(noisy, (s.alpha**2 + s.sigma**2) * turn / (2 * s.sigma.where(noisy, 1)), 0)
    return x_s + size * (estimate(x_s, s) - x_hat)


def _straight(x_hat: Tensor, x_t: Tensor, t: Place, s: Place) -> Tensor:
    return s.alpha * x_hat + s.sigma * (x_t - t.alpha * x_hat) / t.sigma


Apart = Callable[[Tensor, Tensor], Tensor]
"""How far (B, ...) is from (B, ...): (B,), differentiable in the first."""


def squared(made: Tensor, goal: Tensor) -> Tensor:
    """Mean squared difference."""
    return (made - goal).square().flatten(1).mean(1)


def pseudo_huber(width: float = 5.4e-4) -> Apart:
    """sqrt(mean squared difference + width^2) - width: less moved by outliers (Song and Dhariwal 2023, eq. 7).

    Theirs is this times the root of the number of elements; `width` is the same.
    """
    return lambda made, goal: (squared(made, goal) + width**2).sqrt() - width


Importance = Callable[[Place, Place], Tensor]
"""The weight (B,) of a step from t to s."""


def even(t: Place, s: Place) -> Tensor:
    """1."""
    return torch.ones_like(t.t)


def inverse_gap(t: Place, s: Place) -> Tensor:
    """1 / (ratio_t - ratio_s): steps at low noise, which all others build on, count more (Song and Dhariwal 2023)."""
    ratio, before = ((place.sigma / place.alpha).flatten() for place in (t, s))
    return 1 / (ratio - before)


def distillation(
    student: Consistency,
    average: Model,
    teacher: Model | None,
    x: Tensor,
    cond: Tensor | None,
    rng: Rng,
    *,
    steps: int,
    solver: Solver = second_order,
    distance: Apart = squared,
    weight: Importance = even,
) -> Tensor:
    """How far f is from being the same on both sides of a step (B,), for clean x (B, ...); gradients for `student`.

    [end, 1] is cut into `steps` steps, even in t. x noised to the upper side t of one of them is brought to its lower
    side s by the `teacher`, and student(x_t, t) held against average(x_s, s) (Song et al. 2023, algorithm 2). The
    error of f is at most that of the teacher's solver in so many steps. `average` is a running average of the student
    or, as good (Song and Dhariwal 2023, section 3.2), the student itself.

    Without a teacher (None) x itself is the clean estimate, so x_s has the same noise as x_t: consistency training,
    right in the limit of many steps; `step_count` and `pseudo_huber` belong to it. The teacher may be guided.
    """
    if steps < 1:
        raise BadInput(f"distillation needs at least 1 step, got {steps}")
    n = 1 + rng.integers(steps).to(x.device)
    t, s = (_place(student, (n - back).double() / steps, x) for back in (0, 1))
    x_t = t.alpha * x + t.sigma * student.noise.like(x, rng)

    def estimate(x_t: Tensor, place: Place) -> Tensor:
        return x if teacher is None else teacher(x_t, place.t, cond).to(x.dtype)

    with torch.no_grad():
        goal = average(solver(estimate, x_t, t, s), s.t, cond)
    apart = distance(student(x_t, t.t, cond), goal)
    return weight(t, s).to(apart.dtype) * apart


def step_count(share: float, *, first: int = 10, last: int = 1280) -> int:
    """Steps for `distillation` after a `share` in [0, 1] of training: doubling from `first` to `last`.

    Song and Dhariwal 2023, section 3.4: few steps learn fast, many are right.
    """
    if not (0 <= share <= 1 and 1 <= first <= last):
        raise BadInput(f"a share in [0, 1] and 1 <= first <= last are needed, got {share}, {first} and {last}")
    stages = math.log2(last // first) + 1
    return min(first * 2 ** math.floor(share * stages), last)


def _place(student: Consistency, share: Tensor, like: Tensor) -> Place:
    """A share (B,) of the way from the end to t = 1."""
    end = student.end
    t = end.t + (1 - end.t) * share
    alpha, sigma = student.schedule(t)
    there = share == 0
    alpha, sigma = torch.where(there, end.alpha, alpha), torch.where(there, end.sigma, sigma)
    return Place(t, expand(alpha, like).to(like.dtype), expand(sigma, like).to(like.dtype))
