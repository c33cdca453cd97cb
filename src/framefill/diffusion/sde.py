"""Schedules as stochastic differential equations, dx = f(t) x dt + g(t) sqrt(Sigma) dw (thesis 001, 6.2.11 and 6.3.9).

Every schedule is one: f = d log(alpha) / dt and g^2 = d sigma^2 / dt - 2 f sigma^2. Variance preserving (f = -beta / 2,
g^2 = beta) and variance exploding (f = 0, g^2 = d sigma^2 / dt) are two of them. Run backwards in time,

    dx = (f x - (1 + chance^2) / 2 g^2 Sigma grad log p_t) dt + chance g sqrt(Sigma) dw,

has the same law at every time for any chance: 1 is the reverse SDE, 0 the probability-flow ODE. Euler and Maruyama's
steps of them need no sampler of their own: taken in x / alpha over the change of (sigma / alpha)^2 they are `DDIM` for
chance 0, and for chance 1 `DDPM(variance=1)`, exactly where alpha = 1 and to first order in the step elsewhere.

Paper: seed 002's eq. 7 is right and its "eq. 6 without noise" is not: the flow has half the score (facts, section 6).
"""

import torch
from torch import Tensor

from framefill.arrays import expand
from framefill.diffusion.denoiser import Model
from framefill.diffusion.schedule import Schedule


def coefficients(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """f and g^2 at times t (B,), in float64, by differentiating the schedule; 0 < t < 1."""
    with torch.enable_grad():
        t = t.detach().double().requires_grad_()
        alpha, sigma = schedule(t)
        f = _slope(alpha.log(), t)
        growth = _slope(sigma.square(), t)
    return f, growth - 2 * f * sigma.detach().square()


def _slope(value: Tensor, t: Tensor) -> Tensor:
    if not value.requires_grad:  # a constant
        return torch.zeros_like(t)
    return torch.autograd.grad(value.sum(), t, retain_graph=True)[0]


def reverse_drift(model: Model, x_t: Tensor, t: Tensor, cond: Tensor | None = None, *, chance: float = 1.0) -> Tensor:
    """The drift dx/dt of the reverse process at x_t (B, ...), times t (B,); follow it from t = 1 to 0.

    Sigma grad log p_t = -n_hat / sigma, so the covariance does not appear.
    """
    alpha, sigma = (expand(v, x_t).to(x_t.dtype) for v in model.schedule(t))
    f, g_squared = (expand(v, x_t).to(x_t.dtype) for v in coefficients(model.schedule, t))
    n_hat = (x_t - alpha * model(x_t, t, cond)) / sigma
    return f * x_t + (1 + chance**2) / 2 * g_squared * n_hat / sigma
