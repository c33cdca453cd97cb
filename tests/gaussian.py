"""What the tests of diffusion/ share: a table of every member of every family, and a model that is exactly right.

`Gaussian` is data whose law is known in closed form: a mean image plus a stationary Gaussian, diagonal in Fourier
space like every noise here. Its posterior mean, its marginals and its probability-flow map are one formula per mode,
so a sampler can be held against the truth. Nothing here uses the formulas of the package.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from framefill.diffusion import langevin, noise, sample, schedule, target, weight

NOISES = {
    "white": noise.White(),
    "field 1": noise.GaussianFreeField(1.0),
    "field 1/2": noise.GaussianFreeField(0.5),
}
SCHEDULES = {
    "cosine 20": schedule.cosine(-20, 20),
    "cosine 10": schedule.cosine(-10, 10),
    "ddpm": schedule.ddpm(),
    "latent": schedule.latent(),
    "iddpm": schedule.iddpm(),
    "vp": schedule.vp(),
    "edm": schedule.edm(),
    "smld": schedule.smld(),
    "smld levels": schedule.smld(levels=257),
    "flow": schedule.flow(),
    "shifted": schedule.shifted(schedule.cosine(-16, 12), 2.5),
}
PRESERVING = ["cosine 20", "cosine 10", "ddpm", "latent", "iddpm", "vp", "shifted"]  # alpha^2 + sigma^2 = 1
EXPLODING = ["edm", "smld", "smld levels"]  # alpha = 1
TARGETS = {
    "x": target.X(),
    "eps": target.Eps(),
    "v": target.V(),
    "flow": target.Flow(),
    "residual": target.Residual(),
    "residual 1.3": target.Residual(1.3),
}
WEIGHTS = {
    "constant": weight.constant,
    "snr": weight.snr,
    "velocity": weight.velocity,
    "edm": weight.edm(0.5),
    "min_snr": weight.min_snr(),
    "capped": weight.capped(weight.edm(0.5), 36.0),
    "p2": weight.p2(),
    "sech": weight.sech,
    "truncated": weight.truncated,
    "debiased": weight.debiased,
    "sigmoid": weight.sigmoid(1.0),
    "elbo": weight.elbo(weight.cosine_density()),
}
DETERMINISTIC = {
    "ddim": sample.DDIM,
    "euler": sample.euler,
    "heun": sample.Heun,
    "dpm-solver": sample.DPMSolver,
}
ANCESTRAL = {
    "ddpm small": lambda n: sample.DDPM(n, variance=0.0),
    "ddpm between": lambda n: sample.DDPM(n, variance=0.5),
    "ddpm large": lambda n: sample.DDPM(n, variance=1.0),
    "ddim half": lambda n: sample.DDIM(n, eta=0.5),
    "ddim full": lambda n: sample.DDIM(n, eta=1.0),
}
EXCHANGING = {
    "langevin": lambda n: langevin.Langevin(n, rate=0.1),
    "consistent": lambda n: langevin.Consistent(n, rate=0.1),
}
SAMPLERS = {**DETERMINISTIC, **ANCESTRAL, **EXCHANGING}


def table(members: dict) -> dict:
    """Arguments of parametrize that run a test over every member of a table, with readable names."""
    return {"argvalues": list(members.values()), "ids": [name.replace(" ", "_") for name in members]}


def crossing(name: str, members: dict, schedules: dict | None = None) -> pytest.MarkDecorator:
    """Runs a test with every member in every schedule under every noise: two of three among the slow tests.

    In the fast ones noises take turns, so that every pair of a member, a schedule and a noise is there.
    """
    cases = [
        pytest.param(value, *pair, id=f"{title}-{member}".replace(" ", "_"), marks=marks)
        for i, (member, value) in enumerate(members.items())
        for title, pair, marks in _turns(schedules or SCHEDULES, i)
    ]
    return pytest.mark.parametrize((name, "process", "noise"), cases)


def pairing(schedules: dict) -> pytest.MarkDecorator:
    """The same without members."""
    cases = [pytest.param(*pair, id=title, marks=marks) for title, pair, marks in _turns(schedules, 0)]
    return pytest.mark.parametrize(("process", "noise"), cases)


def _turns(schedules: dict, first: int) -> Iterator[tuple[str, tuple, tuple]]:
    """Title, schedule and noise, and marks of all pairs; from `first` on, one noise of each schedule is fast."""
    for j, (process, levels) in enumerate(schedules.items()):
        for k, (color, own) in enumerate(NOISES.items()):
            marks = () if k == (first + j) % len(NOISES) else (pytest.mark.slow,)
            yield f"{color}-{process}".replace(" ", "_"), (levels, own), marks


def public(module, kind) -> set[str]:
    """Names that `module` itself defines and that are `kind`: concrete subclasses of a class, or functions."""
    found = {n: v for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__ and n[0] != "_"}
    if inspect.isclass(kind):
        return {n for n, v in found.items() if inspect.isclass(v) and issubclass(v, kind) and not inspect.isabstract(v)}
    return {n for n, v in found.items() if inspect.isfunction(v) and kind(v)}


def expand(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def wavenumbers(height: int, width: int) -> np.ndarray:
    """|k| of every mode of an image (H, W), with 1 for the zero mode, mode by mode from its definition."""
    k = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            k[i, j] = np.hypot(min(i, height - i), min(j, width - j))
    k[0, 0] = 1.0
    return k


@cache
def _field_power(power: float, height: int, width: int) -> Tensor:
    spectrum = wavenumbers(height, width) ** (-2 * power)
    return torch.from_numpy(spectrum / spectrum.mean())


def noise_power(kind: noise.Noise, height: int, width: int) -> Tensor:
    """Variance of every Fourier mode of a noise, scaled so that white noise has 1."""
    return _field_power(getattr(kind, "power", 0.0), height, width)


def through(gain: Tensor, x: Tensor) -> Tensor:
    """Images (..., H, W) with every Fourier mode multiplied by `gain` (H, W)."""
    return torch.fft.ifft2(torch.fft.fft2(x) * gain).real


@dataclass
class Gaussian:
    """Data N(mean, circulant(variance)); a Model whose estimate is the exact posterior mean.

    `mean` is (H, W); `variance` (H, W) is the variance of each Fourier mode, 1 for white noise of unit variance. A
    condition (broadcastable to x) is added to the mean.
    """

    schedule: schedule.Schedule
    noise: noise.Noise
    mean: Tensor
    variance: Tensor
    calls: list[float] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        self.calls.append(float(t[0]))
        alpha, sigma = (expand(v, x_t) for v in self.schedule(t))
        mean = self.mean if cond is None else self.mean + cond
        noise = noise_power(self.noise, *x_t.shape[-2:])
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2 * noise)
        return (mean + through(gain, x_t - alpha * mean)).to(x_t.dtype)

    def marginal(self, level: schedule.Level) -> Tensor:
        """The variance (H, W) of every mode of x_t."""
        return level.alpha**2 * self.variance + level.sigma**2 * noise_power(self.noise, *self.mean.shape)

    def draw(self, level: schedule.Level, z: Tensor) -> Tensor:
        """x_t, exactly distributed, from white noise z (..., H, W)."""
        return level.alpha * self.mean + through(self.marginal(level).sqrt(), z)

    def flow(self, x_t: Tensor, t: schedule.Level, s: schedule.Level) -> Tensor:
        """The exact solution at s of the probability-flow ODE from x_t at t: each mode keeps its quantile."""
        ratio = (self.marginal(s) / self.marginal(t)).sqrt()
        return s.alpha * self.mean + through(ratio, x_t - t.alpha * self.mean)


def gaussian(process: schedule.Schedule, kind: noise.Noise, height: int = 5, width: int = 6) -> Gaussian:
    """Data with a nonzero mean and a spectrum that is neither the noise's nor white; std between 0.5 and 1."""
    k = torch.from_numpy(wavenumbers(height, width))
    mean = 0.3 + torch.linspace(-1, 1, height * width, dtype=torch.float64).reshape(height, width)
    return Gaussian(process, kind, mean, 0.25 + 0.75 / k)


def white(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64, from a generator of its own."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def modes(x: Tensor) -> Tensor:
    """|Fourier coefficient|^2 of images (..., H, W), scaled so that white noise of unit variance has mean 1."""
    return torch.fft.fft2(x).abs().square() / (x.shape[-1] * x.shape[-2])
