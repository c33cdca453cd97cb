"""Noise schedules: functions of time t in [0, 1] that give alpha_t and sigma_t of x_t = alpha_t x + sigma_t n.

t = 0 is (nearly) clean, t = 1 is (nearly) pure noise; the signal-to-noise ratio alpha^2 / sigma^2 falls
between (strictly, but for `smld` with a number of levels). A schedule is a pure function: it holds no
steps and no state, and is evaluated in float64.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from framefill.arrays import Rng
from framefill.errors import BadInput

Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]
Times = Callable[[Rng], Tensor]


def cosine(lambda_min: float = -20.0, lambda_max: float = 20.0) -> Schedule:
    """The truncated alpha-cosine of seed 003 (eq. 2.8 to 2.12): alpha = cos(a), sigma = sin(a), variance preserving.

    The angle a runs linearly in t between the angles at which the log signal-to-noise ratio
    lambda = log(alpha^2 / sigma^2) equals `lambda_max` (t = 0) and `lambda_min` (t = 1).
    """
    _require(lambda_min < lambda_max, f"cosine needs lambda_min < lambda_max, got {lambda_min} and {lambda_max}")
    first = math.atan(math.exp(-lambda_max / 2))
    last = math.atan(math.exp(-lambda_min / 2))

    def schedule(t: Tensor) -> tuple[Tensor, Tensor]:
        angle = first + (last - first) * t.double()
        return angle.cos(), angle.sin()

    return schedule


def ddpm(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    """The discrete table of DDPM with linear beta (thesis 001, eq. 2.4.1 on), exact at t = k / steps, k = 0..steps.

    alpha^2 is the cumulative product of 1 - beta_k; between table entries its logarithm is interpolated linearly.
    """
    _require(
        steps >= 1 and 0 < beta_min <= beta_max < 1,
        f"ddpm needs steps >= 1 and 0 < beta_min <= beta_max < 1, got {steps}, {beta_min}, {beta_max}",
    )
    return _tabled(torch.linspace(beta_min, beta_max, steps, dtype=torch.float64))


def latent(steps: int = 1000, beta_min: float = 0.0015, beta_max: float = 0.0195) -> Schedule:
    """The table of latent diffusion (Rombach et al. 2022): sqrt(beta) linear; otherwise as `ddpm`.

    Its first entries add 15 times the noise of `ddpm`'s, and the last step of a sampler is the one that loses variance:
    it needs more steps for the same bias.
    """
    _require(
        steps >= 1 and 0 < beta_min <= beta_max < 1,
        f"latent needs steps >= 1 and 0 < beta_min <= beta_max < 1, got {steps}, {beta_min}, {beta_max}",
    )
    return _tabled(torch.linspace(beta_min**0.5, beta_max**0.5, steps, dtype=torch.float64).square())


def iddpm(steps: int = 4000, offset: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """The table of improved DDPM (Nichol and Dhariwal 2021, eq. 17): alpha falls as a cosine, no beta above `beta_max`.

    alpha_k is proportional to cos((k / steps + offset) / (1 + offset) pi / 2); otherwise as `ddpm`. Seed 002's cosine
    is the same with the square that its eq. 11 lost: its alpha is our alpha^2.
    """
    _require(
        steps >= 1 and offset > 0 and 0 < beta_max < 1,
        f"iddpm needs steps >= 1, offset > 0 and 0 < beta_max < 1, got {steps}, {offset}, {beta_max}",
    )
    place = torch.arange(steps + 1, dtype=torch.float64) / steps
    share = ((place + offset) / (1 + offset) * (math.pi / 2)).cos().square()
    return _tabled((1 - share[1:] / share[:-1]).clamp(max=beta_max))


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """The variance-preserving SDE dx = -beta x / 2 dt + sqrt(beta) dw, beta linear in t (Song et al. 2021, eq. 33)."""
    _require(0 < beta_min <= beta_max, f"vp needs 0 < beta_min <= beta_max, got {beta_min}, {beta_max}")

    def schedule(t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return _preserving(-t * (beta_min + t * (beta_max - beta_min) / 2))

    return schedule


def _tabled(beta: Tensor) -> Schedule:
    """The schedule of the variances that each step adds: log alpha^2 is tabled, and linear between the entries."""
    return partial(_look_up, torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-beta).cumsum(0)]))


def _look_up(table: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    steps = len(table) - 1
    place = (t.double() * steps).clamp(0, steps)
    # A time such as 0.29 * 1000 is off an integer by rounding only: the table entry is meant.
    place = torch.where((place - place.round()).abs() < 1e-9 * steps, place.round(), place)
    low = place.floor().long().clamp(max=steps - 1)
    values = table.to(t.device)
    return _preserving(torch.lerp(values[low], values[low + 1], place - low))


def _preserving(log_alpha_squared: Tensor) -> tuple[Tensor, Tensor]:
    return (log_alpha_squared / 2).exp(), (-torch.expm1(log_alpha_squared)).sqrt()


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """Karras et al. 2022, eq. 5: alpha = 1, sigma^(1/rho) linear in t from `sigma_min` to `sigma_max`."""
    _require(
        0 < sigma_min < sigma_max and rho > 0,
        f"edm needs 0 < sigma_min < sigma_max and rho > 0, got {sigma_min}, {sigma_max}, {rho}",
    )
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)

    def schedule(t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return torch.ones_like(t), (low + (high - low) * t) ** rho

    return schedule


def smld(sigma_min: float = 0.01, sigma_max: float = 50.0, levels: int | None = None) -> Schedule:
    """Score matching with Langevin dynamics (thesis 001, section 2.5): alpha = 1, sigma geometric in t.

    With `levels`, sigma takes only that many values (those of the discrete model); without, it is continuous.
    """
    _require(0 < sigma_min < sigma_max, f"smld needs 0 < sigma_min < sigma_max, got {sigma_min}, {sigma_max}")
    _require(levels is None or levels >= 2, f"smld needs at least 2 levels, got {levels}")

    def schedule(t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        place = t if levels is None else (t * (levels - 1)).round() / (levels - 1)
        return torch.ones_like(t), sigma_min * (sigma_max / sigma_min) ** place

    return schedule


def flow() -> Schedule:
    """Rectified flow: alpha = 1 - t, sigma = t, a straight line from signal to noise."""

    def schedule(t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return 1 - t, t

    return schedule


def shifted(schedule: Schedule, factor: float) -> Schedule:
    """The schedule with sigma / alpha multiplied by `factor` at every t, and alpha^2 + sigma^2 as it was.

    Large or redundant signals (many pixels, many frames) survive more noise, so they need more of it to hide their
    layout (Hoogeboom et al. 2023, "simple diffusion", eq. 9, in other words).
    """
    _require(factor > 0, f"shifted needs factor > 0, got {factor}")

    def moved(t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedule(t)
        scale = torch.hypot(alpha, sigma) / torch.hypot(alpha, factor * sigma)
        return alpha * scale, factor * sigma * scale

    return moved


class Level(NamedTuple):
    """One point of a schedule as plain numbers: what a sampler steps between."""

    t: float
    alpha: float
    sigma: float

    @property
    def log_ratio(self) -> float:
        """log(alpha / sigma), half the log signal-to-noise ratio; infinite at the clean and pure-noise ends."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


CLEAN = Level(0.0, 1.0, 0.0)


def levels(schedule: Schedule, times: Tensor) -> list[Level]:
    """The schedule at each of `times` (n,), as plain numbers."""
    alpha, sigma = schedule(times)
    return [Level(*values) for values in zip(times.tolist(), alpha.tolist(), sigma.tolist(), strict=True)]


def signal_to_noise(alpha: Tensor, sigma: Tensor) -> Tensor:
    """alpha^2 / sigma^2, the argument of every loss weight."""
    return (alpha / sigma).square()


def uniform_times(rng: Rng) -> Tensor:
    """Training times (B,) in (0, 1], uniform."""
    return 1 - rng.uniform().double()


def table_times(steps: int) -> Times:
    """Training times (B,) uniform on {1/steps, 2/steps, ..., 1}: the entries of a discrete table."""

    def times(rng: Rng) -> Tensor:
        return (1 + rng.integers(steps)).double() / steps

    return times


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise BadInput(message)
