"""Exact log-likelihood of a model by its probability-flow ODE, in bits per dimension.

In the angle a = atan(sigma / alpha), z = x_t / sqrt(alpha^2 + sigma^2) moves by dz/da = cos(a) n_hat - sin(a) x_hat,
finite for every schedule, pure noise included, and its density changes along the way by the divergence of that field:

    log p(x) = log p_1(z_1) + integral of div(dz/da) da + D log cos(a_0),

with z_1 ~ N(0, sin(a_1)^2 Sigma), the noise every sampler starts from. Sigma enters by its `whiten` and `log_det`.
(Song et al. 2021, section 4.3; thesis 001, eq. 2.3.4 with its sign corrected.)
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.density import bits_per_dimension as bits_per_dimension
from framefill.density import dequantise as dequantise
from framefill.diffusion.denoiser import Model
from framefill.diffusion.noise import Noise
from framefill.diffusion.schedule import Level, levels
from framefill.errors import BadInput

Field = Callable[[Tensor], Tensor]
Divergence = Callable[[Field, Tensor], tuple[Tensor, Tensor]]
"""(field, z (B, ...)) to the field at z and its divergence (B,)."""
Estimator = Callable[[Tensor, Rng], Divergence]
"""Chosen once per solve: from z (B, ...) and the random streams."""


def exact(z: Tensor, rng: Rng) -> Divergence:
    """The trace itself, in as many backward passes as a sample has elements: for tests and small signals."""

    def divergence(field: Field, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = field(z)
            rows = value.flatten(1)
            parts = (torch.autograd.grad(rows[:, i].sum(), z, retain_graph=True)[0] for i in range(rows.shape[1]))
            trace = torch.stack([part.flatten(1)[:, i] for i, part in enumerate(parts)]).sum(0)
        return value.detach(), trace

    return divergence


def hutchinson(z: Tensor, rng: Rng) -> Divergence:
    """e^T J e with one random e of signs per sample, the same along the whole path: unbiased, one backward pass."""
    signs = 2.0 * (rng.uniform(z.shape[1:], z) < 0.5).to(z.dtype) - 1.0

    def divergence(field: Field, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = field(z)
            (gradient,) = torch.autograd.grad((value * signs).sum(), z)
        return value.detach(), (gradient * signs).flatten(1).sum(1)

    return divergence


def gaussian_log_density(n: Tensor, noise: Noise, scale: float = 1.0) -> Tensor:
    """log N(n; 0, scale^2 Sigma) of each sample of n (B, ...), in nats, (B,)."""
    size = n[0].numel()
    square = noise.whiten(n).flatten(1).square().sum(1) / scale**2
    return -square / 2 - size * math.log(2 * math.pi * scale**2) / 2 - noise.log_det(n.shape[1:])


def log_likelihood(
    model: Model,
    x: Tensor,
    cond: Tensor | None,
    rng: Rng,
    *,
    steps: int = 100,
    start: float = 1e-3,
    estimator: Estimator = hutchinson,
) -> Tensor:
    """log p(x) in nats, (B,), of x (B, ...) under the model; two calls and two divergences per step.

    Heun's rule over `steps` equal steps in t from `start`, where x counts as clean, to 1. The error is of second order
    in the step, plus what the noise at `start` hides: choose sigma(start) well below the finest detail that counts
    (for 8-bit pixels in [-1, 1], below 0.004). Computed in the precision of x: give float64 for small differences.
    """
    path = _path(model, steps, start)
    divergence = estimator(x, rng)
    first, last = path[0], path[-1]
    z, change = x * math.cos(_angle(first)), torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for t, s in pairwise(path):
        turn = _angle(s) - _angle(t)
        slope, trace = divergence(_velocity(model, t, cond), z)
        slope_s, trace_s = divergence(_velocity(model, s, cond), z + turn * slope)
        z = z + turn / 2 * (slope + slope_s)
        change = change + turn / 2 * (trace + trace_s)
    prior = gaussian_log_density(z, model.noise, math.sin(_angle(last)))
    return prior + change + x[0].numel() * math.log(math.cos(_angle(first)))


def _path(model: Model, steps: int, start: float) -> list[Level]:
    if steps < 1 or not 0 <= start < 1:
        raise BadInput(f"a likelihood needs steps >= 1 and start in [0, 1), got {steps} and {start}")
    path = levels(model.schedule, torch.linspace(start, 1, steps + 1, dtype=torch.float64))
    if path[0].sigma == 0:
        raise BadInput(f"the schedule has no noise at t = {start}, where the flow begins; choose a start above it")
    return path


def _angle(level: Level) -> float:
    return math.atan2(level.sigma, level.alpha)


def _velocity(model: Model, level: Level, cond: Tensor | None) -> Field:
    """dz/da at one level, as a function of z: (cos(a) z - x_hat) / sin(a), as n_hat = (z - cos(a) x_hat) / sin(a)."""
    angle, size = _angle(level), math.hypot(level.alpha, level.sigma)

    def field(z: Tensor) -> Tensor:
        t = torch.full((len(z),), level.t, dtype=torch.float64, device=z.device)
        return (math.cos(angle) * z - model(size * z, t, cond)) / math.sin(angle)

    return field
