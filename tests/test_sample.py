"""Samplers on data whose law is known exactly: orders of convergence, posteriors, variances, spectra, landings.

Every sampler is linear on Gaussian data, so its law is computed without a single random number: `impulses` runs it on
unit impulses in the first noise and in every later draw, and the squared responses add up to the sample's variance.
"""

import math
from collections import deque
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.diffusion import langevin, sample
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import ClassifierFree
from framefill.diffusion.noise import GaussianFreeField, White
from framefill.diffusion.sample import DDIM, DDPM, DPMSolver, Heun, Sampler, euler
from framefill.diffusion.schedule import CLEAN, Level, cosine, ddpm, levels
from framefill.diffusion.target import V
from framefill.errors import BadInput
from framefill.nets.unet import UNet
from gaussian import (
    ANCESTRAL,
    DETERMINISTIC,
    NOISES,
    PRESERVING,
    SAMPLERS,
    SCHEDULES,
    Gaussian,
    crossing,
    gaussian,
    modes,
    noise_power,
    public,
    table,
    wavenumbers,
    white,
)

every_sampler = pytest.mark.parametrize("make", **table(SAMPLERS))
every_ancestral = pytest.mark.parametrize("make", **table(ANCESTRAL))
every_deterministic = pytest.mark.parametrize("make", **table(DETERMINISTIC))
every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))


def close(a, b, tolerance=1e-11):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.float64)


def last(steps):
    return deque(steps, maxlen=1).pop()


def between(process, fineness, reach=1.5):
    """Levels at even times where |log(alpha / sigma)| <= reach; each step halved when `fineness` doubles."""
    marks = [k for k in range(1, 33) if abs(levels(process, torch.tensor([k / 32]))[0].log_ratio) <= reach]
    count = (marks[-1] - marks[0]) * fineness
    return levels(process, torch.linspace(marks[-1], marks[0], count + 1, dtype=torch.float64) / 32)


def step(sampler, model, x_t, t, s, draw):
    """One first step of a sampler, with the fresh noise given."""

    def estimate(x, level):
        return model(x, torch.full((len(x),), level.t, dtype=torch.float64), None)

    return sampler.step(estimate, x_t, t, s, [(t, estimate(x_t, t))], lambda: draw)


class Impulses:
    """A noise whose draw number k is the unit impulse of `noise` in sample k and zero in all others."""

    def __init__(self, noise):
        self.noise, self.power, self.count = noise, getattr(noise, "power", 0.0), 0

    def like(self, x, rng):
        z = torch.zeros_like(x)
        if self.count < len(x):
            z[self.count, ..., 0, 0] = 1
        self.count += 1
        return self.noise.color(z)


def law(sampler, data):
    """The exact mean (H, W) of a sampler's samples and their exact variance (H, W) in every Fourier mode."""
    probe = Impulses(data.noise)
    model = Gaussian(data.schedule, data.noise, data.mean, data.variance)
    model.noise = probe
    deterministic = isinstance(sampler, (Heun, DPMSolver)) or getattr(sampler, "eta", None) == 0
    like = zeros((1 if deterministic else sampler.steps) + 1, *data.mean.shape)
    x = sampler(model, like, None, Rng(range(len(like))))
    assert probe.count == (1 if deterministic else sampler.steps), "draws: the start, and every step but the last"
    return x[-1], torch.fft.fft2(x[:-1] - x[-1]).abs().square().sum(0)


def test_the_table_has_every_member():
    assert {type(make(1)).__name__ for make in SAMPLERS.values()} == public(sample, Sampler) | public(langevin, Sampler)
    assert {type(make(1)).__name__ for make in DETERMINISTIC.values()} | {"DDPM"} == public(sample, Sampler)


# --- the path ---------------------------------------------------------------------------------------------------------


@every_sampler
@every_schedule
def test_a_run_walks_the_path_and_lands_on_clean(make, process):
    for steps in (1, 2, 7):
        data = gaussian(process, White())
        sampler = make(steps)
        path = sampler.path(data)
        times = [1 - i / steps for i in range(steps)]
        assert path[-1] == CLEAN
        assert [level.t for level in path[:-1]] == pytest.approx(times)
        for level in path[:-1]:
            alpha, sigma = process(torch.tensor([level.t], dtype=torch.float64))
            assert (level.alpha, level.sigma) == pytest.approx((alpha.item(), sigma.item()), abs=1e-15)
        visited = list(sampler.trajectory(data, white(0, 2, 5, 6), None, Rng([1, 2])))
        assert len(visited) == steps
        assert sorted({round(t, 12) for t in data.calls}, reverse=True) == pytest.approx(times)
        # The last step lands on the clean estimate itself, with no noise left in it or added to it.
        before = visited[-2] if steps > 1 else white(0, 2, 5, 6)
        assert torch.equal(visited[-1], data(before, torch.full((2,), path[-2].t, dtype=torch.float64), None))


@every_schedule
@every_sampler
def test_calls_are_counted(make, process):
    for steps in (1, 2, 5, 20):
        data, sampler = gaussian(process, White()), make(steps)
        assert sampler(data, zeros(1, 5, 6), None, Rng([0])).isfinite().all()
        assert sampler.calls == (2 * steps - 1 if isinstance(sampler, Heun) else steps)
        if process(torch.ones(1))[0] > 0:
            assert len(data.calls) == sampler.calls
        else:
            assert sampler.calls - 1 <= len(data.calls) <= sampler.calls


@every_sampler
@every_noise
def test_the_start_is_the_noise_of_the_first_level(make, noise):
    data = gaussian(SCHEDULES["edm"], noise)
    seen = []

    class Spy(Gaussian):
        def __call__(self, x_t, t, cond):
            seen.append(x_t)
            return super().__call__(x_t, t, cond)

    spy = Spy(data.schedule, noise, data.mean, data.variance)
    make(2)(spy, zeros(3, 5, 6), None, Rng([4, 5, 6]))
    close(seen[0], 80 * noise.like(zeros(3, 5, 6), Rng([4, 5, 6])))


@pytest.mark.parametrize("make", **table(DETERMINISTIC))
@every_schedule
@pytest.mark.parametrize("strength", [0.25, 0.8])
def test_strength_starts_with_the_noise_of_that_time_and_follows_the_flow(make, process, strength):
    data = gaussian(process, White())
    sampler = replace(make(60), strength=strength)
    path = sampler.path(data)
    assert [level.t for level in path[:-1]] == pytest.approx([strength * (1 - i / 60) for i in range(60)])
    drawn = sampler(data, zeros(2, 5, 6), None, Rng([1, 2]))
    noise = White().like(zeros(2, 5, 6), Rng([1, 2]))
    exact = data.flow(path[0].sigma * noise, path[0], path[-1])
    assert (drawn - exact).abs().mean() < 0.1 * (exact - drawn.mean()).abs().mean()


@pytest.mark.parametrize("make", **table(SAMPLERS))
@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5, float("nan")])
def test_no_noise_and_more_than_all_are_refused(make, strength):
    with pytest.raises(BadInput, match="strength must lie"):
        replace(make(3), strength=strength)


@every_sampler
def test_samples_do_not_carry_gradients_but_trajectories_may(make):
    data = gaussian(SCHEDULES["cosine 10"], White())
    data.mean = data.mean.requires_grad_()
    assert not make(3)(data, zeros(1, 5, 6), None, Rng([0])).requires_grad
    x = last(make(3).trajectory(data, white(0, 1, 5, 6), None, Rng([0])))
    (gradient,) = torch.autograd.grad(x.sum(), data.mean)
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("make", **table(SAMPLERS))
@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(make, steps):
    with pytest.raises(BadInput, match=f"at least 1 step, got {steps}"):
        make(steps)


@pytest.mark.parametrize("variance", [-0.1, 1.5, float("nan")])
def test_variance_outside_the_unit_interval_is_refused(variance):
    with pytest.raises(BadInput, match=rf"variance must lie in \[0, 1\] .*got {variance}"):
        DDPM(10, variance=variance)


# --- one step ---------------------------------------------------------------------------------------------------------


class Known:
    """A model that knows x."""

    noise = White()

    def __init__(self, process, x):
        self.schedule, self.x = process, x

    def __call__(self, x_t, t, cond):
        return self.x


def pairs(process):
    """(t, s) pairs of levels: short, long, from the very start."""
    times = torch.tensor([[1.0, 0.96875], [1.0, 0.5], [0.75, 0.71875], [0.5, 0.125], [0.25, 0.03125]])
    return [tuple(levels(process, pair.double())) for pair in times]


def posterior(t: Level, s: Level, x, x_t):
    """Mean and variance of x_s given x_t and x, by conditioning the joint Gaussian of x_s and x_t given x."""
    shrink = t.alpha / s.alpha
    covariance = shrink * s.sigma**2
    gain = covariance / t.sigma**2
    return s.alpha * x + gain * (x_t - t.alpha * x), s.sigma**2 - gain * covariance


@every_schedule
def test_ancestral_steps_are_the_exact_posterior(process):
    x, x_t, z = white(0, 3, 4, 4), white(1, 3, 4, 4), white(2, 3, 4, 4)
    for t, s in pairs(process):
        mean, variance = posterior(t, s, x, x_t)
        for sampler in (DDIM(1, eta=1.0), DDPM(1, variance=0.0)):
            close(step(sampler, Known(process, x), x_t, t, s, torch.zeros_like(z)), mean, 1e-9)
            close(step(sampler, Known(process, x), x_t, t, s, z), mean + math.sqrt(variance) * z, 1e-9)


@every_schedule
@pytest.mark.parametrize("v", [0.25, 0.5, 1.0])
def test_ddpm_variances_lie_between_the_posterior_and_the_transition(process, v):
    x, x_t, z = white(0, 3, 4, 4), white(1, 3, 4, 4), white(2, 3, 4, 4)
    for t, s in pairs(process):
        mean, small = posterior(t, s, x, x_t)
        large = t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2  # of x_t given x_s
        added = step(DDPM(1, variance=v), Known(process, x), x_t, t, s, z) - mean
        close(added, math.sqrt(small ** (1 - v) * large**v) * z, 1e-9)


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.3, 0.5, 1.0])
def test_any_eta_keeps_the_marginal(process, eta):
    # From x_t = alpha_t x + sigma_t n with the true x, x_s has mean alpha_s x and variance sigma_s^2.
    x, n, z = white(0, 1, 3, 3), white(1, 1, 3, 3), white(2, 1, 3, 3)
    for t, s in pairs(process):

        def at(n, z, t=t, s=s):
            return step(DDIM(1, eta=eta), Known(process, x), t.alpha * x + t.sigma * n, t, s, z) - s.alpha * x

        kept, added = at(n, 0 * z) / n, at(0 * n, z) / z
        close(kept**2 + added**2, torch.full_like(x, s.sigma**2), 1e-9)
        ratio = 0.0 if t.alpha == 0 else (s.sigma * t.alpha / (s.alpha * t.sigma)) ** 2
        close(added, torch.full_like(x, s.sigma * eta * math.sqrt(1 - ratio)), 1e-9)


@every_schedule
@every_noise
def test_euler_is_the_textbook_step(process, noise):
    # d(x / alpha) = n_hat d(sigma / alpha).
    data, x_t = gaussian(process, noise), white(3, 2, 5, 6)
    for t, s in pairs(process):
        if t.alpha == 0:
            continue
        x_hat = data(x_t, torch.full((2,), t.t, dtype=torch.float64), None)
        n_hat = (x_t - t.alpha * x_hat) / t.sigma
        u = x_t / t.alpha + n_hat * (s.sigma / s.alpha - t.sigma / t.alpha)
        close(step(euler(1), data, x_t, t, s, None), s.alpha * u, 1e-9)


@every_schedule
@every_noise
def test_first_steps_of_the_solvers(process, noise):
    data, x_t = gaussian(process, noise), white(4, 2, 5, 6)
    for t, s in pairs(process):
        plain = step(DDIM(1), data, x_t, t, s, None)
        assert torch.equal(step(DPMSolver(1), data, x_t, t, s, None), plain)
        assert torch.equal(step(euler(1), data, x_t, t, s, None), plain)


@every_schedule
@every_noise
def test_dpm_solver_is_its_textbook_step(process, noise):
    # Lu et al. 2022, algorithm 2 in its own symbols: lambda = log(alpha / sigma), h, r, D.
    data, x = gaussian(process, noise), white(5, 2, 5, 6)
    path = between(process, 1)
    mine = list(DPMSolver(1).trajectory(data, x, None, Rng([0, 1]), path=path))
    before = None
    for i, (t, s) in enumerate(pairwise(path)):
        m = data(x, torch.full((2,), t.t, dtype=torch.float64), None)
        h = math.log(s.alpha / s.sigma) - math.log(t.alpha / t.sigma)
        D = m
        if before is not None:
            r = (math.log(t.alpha / t.sigma) - math.log(path[i - 1].alpha / path[i - 1].sigma)) / h
            D = (1 + 1 / (2 * r)) * m - 1 / (2 * r) * before
        x = s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * D
        close(mine[i], x, 1e-9)
        before = m


# --- the ODE ----------------------------------------------------------------------------------------------------------


@crossing("make", DETERMINISTIC)
def test_order_of_convergence(make, process, noise):
    data, sampler = gaussian(process, noise), make(1)
    order = 2 if type(sampler) in (Heun, DPMSolver) else 1
    errors = []
    for fineness in (4, 8):
        path = between(process, fineness)
        x = data.draw(path[0], white(6, 3, 5, 6))
        end = last(sampler.trajectory(data, x, None, Rng([0, 1, 2]), path=path))
        exact = data.flow(x, path[0], path[-1])
        errors.append((end - exact).square().mean().sqrt().item() / exact.std().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)
    assert errors[1] < (0.01 if order == 1 else 2e-4)


@crossing("make", DETERMINISTIC)
def test_a_fine_path_is_the_exact_map(make, process, noise):
    data = gaussian(process, noise)
    path = between(process, 2, reach=3.0)
    x = data.draw(path[0], white(7, 2, 5, 6))
    end = last(make(1).trajectory(data, x, None, Rng([0, 1]), path=path))
    assert (end - data.flow(x, path[0], path[-1])).abs().max() < (0.15 if make(1) == DDIM(1) else 0.03)


# --- the law of the samples -------------------------------------------------------------------------------------------


def recursion(path, noise, mean, variance, kind, parameter):
    """Mean and variance per mode of ancestral sampling of N(mean, variance) in noise of the given power, in numpy.

    From the formulas of DDPM: with the transition x_t = a x_s + sqrt(beta) n, the posterior of x_s given x_t and x has
    mean (sigma_s^2 a x_t + beta alpha_s x) / sigma_t^2 and variance beta_tilde = beta sigma_s^2 / sigma_t^2. DDIM keeps
    sqrt(sigma_s^2 - eta^2 beta_tilde) of the noise estimate. x is replaced by its estimate, linear in x_t.
    """
    law_mean, law_variance = 0 * mean, path[0].sigma ** 2 * noise
    for t, s in pairwise(path):
        slope = t.alpha * variance / (t.alpha**2 * variance + t.sigma**2 * noise)  # x_hat = offset + slope x_t
        offset = mean - slope * t.alpha * mean
        if s.sigma == 0:
            a, b, added = 0.0, 1.0, 0.0
        else:
            shrink = t.alpha / s.alpha
            beta = t.sigma**2 - shrink**2 * s.sigma**2
            beta_tilde = beta * s.sigma**2 / t.sigma**2
            if kind == "ddpm":
                a, b = s.sigma**2 * shrink / t.sigma**2, beta * s.alpha / t.sigma**2
                added = beta**parameter * beta_tilde ** (1 - parameter)
            else:
                added = parameter**2 * beta_tilde
                a = np.sqrt(s.sigma**2 - added) / t.sigma
                b = s.alpha - a * t.alpha
        law_mean = (a + b * slope) * law_mean + b * offset
        law_variance = (a + b * slope) ** 2 * law_variance + added * noise
    return law_mean, law_variance


def recursion_of(sampler, data, mean=None):
    noise = noise_power(data.noise, *data.mean.shape).numpy()
    kind, parameter = ("ddpm", sampler.variance) if isinstance(sampler, DDPM) else ("ddim", sampler.eta)
    mean = np.zeros_like(noise) if mean is None else mean
    return recursion(sampler.path(data), noise, mean, data.variance.numpy(), kind, parameter)


def scalar(process, variance=1.0, mean=0.0):
    one = torch.ones(1, 1, dtype=torch.float64)
    return Gaussian(process, White(), mean * one, variance * one)


@crossing("make", {**ANCESTRAL, "ddim": DDIM})
def test_ancestral_sampling_follows_the_recursion(make, process, noise):
    for steps in (1, 2, 24):
        data = gaussian(process, noise)
        mean, variance = law(make(steps), data)
        expected_mean, expected = recursion_of(make(steps), data, torch.fft.fft2(data.mean).numpy())
        np.testing.assert_allclose(variance.numpy(), expected, rtol=1e-8)
        np.testing.assert_allclose(torch.fft.fft2(mean).numpy(), expected_mean, rtol=1e-8, atol=1e-8)


@every_ancestral
@pytest.mark.parametrize("steps", [100, 1000])
def test_long_chains_follow_the_recursion(make, steps):
    data = scalar(ddpm(), variance=0.3, mean=0.7)
    mean, variance = law(make(steps), data)
    expected_mean, expected = recursion_of(make(steps), data, np.full((1, 1), 0.7))
    np.testing.assert_allclose(variance.numpy(), expected, rtol=1e-7)
    np.testing.assert_allclose(mean.numpy(), expected_mean, rtol=1e-7)


@every_ancestral
@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_random_chains_have_that_variance(make, steps):
    # The same through real draws: one sample of 4000 independent pixels, 4 standard errors.
    data, n = scalar(ddpm(), variance=0.3, mean=0.7), 4000
    x = make(steps)(data, zeros(1, n, 1, 1), None, Rng([steps]))
    mean, variance = recursion_of(make(steps), data, np.full((1, 1), 0.7))
    assert x.var().item() == pytest.approx(variance.item(), rel=4 * (2 / n) ** 0.5)
    assert x.mean().item() == pytest.approx(mean.item(), abs=4 * (variance.item() / n) ** 0.5)


@pytest.mark.parametrize(("steps", "published"), [(1000, 1.000), (100, 0.957), (10, 0.741)])
def test_small_variance_is_under_dispersed_as_published(steps, published):
    # Facts of thesis 001, section 1.4: N(0, 1) data, exact noise estimate, std of the samples.
    _, variance = law(DDPM(steps, variance=0.0), scalar(ddpm()))
    assert variance.sqrt().item() == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize("process", **table({name: SCHEDULES[name] for name in PRESERVING}))
@pytest.mark.parametrize("steps", [2, 10, 100])
def test_large_variance_is_right_for_unit_data(process, steps):
    # Where variance is preserved, x_s given x_t has variance beta exactly; only the last, noiseless step loses some.
    data = scalar(process)
    _, variance = law(DDPM(steps, variance=1.0), data)
    last_level = data.schedule(torch.tensor([1 / steps], dtype=torch.float64))[0].item()
    start = data.schedule(torch.ones(1, dtype=torch.float64))[0].item()
    assert variance.item() == pytest.approx(last_level**2, abs=2 * start**2)


# How far from the data 48 steps (128 for the deterministic ones) may be, relative to the standard deviation of a mode.
# Not Langevin: it never arrives, and where it stays is known exactly (test_langevin.py).
BIAS = {
    "ddim": 0.025, "euler": 0.025, "heun": 0.003, "dpm-solver": 0.003,
    "ddpm small": 0.12, "ddpm between": 0.06, "ddpm large": 0.12, "ddim half": 0.075, "ddim full": 0.12,
    "consistent": 0.075,
}  # fmt: skip


# The table of latent diffusion leaves so much noise to the last step that it needs more steps for the same bias.
ENDING = {name: process for name, process in SCHEDULES.items() if name != "latent"}


@crossing("name", {name: name for name in BIAS}, ENDING)
def test_samples_have_the_spectrum_and_the_mean_of_the_data(name, process, noise):
    data = gaussian(process, noise)
    mean, variance = law(SAMPLERS[name](128 if name in DETERMINISTIC else 48), data)
    assert ((variance / data.variance).sqrt() - 1).abs().max() < BIAS[name]
    assert (mean - data.mean).abs().max() < 0.03


@every_sampler
@every_noise
def test_random_samples_have_the_spectrum_of_the_data(make, noise):
    # Through real draws: bands of |k|, 4 standard errors around the exact law of the sampler.
    data, n = gaussian(cosine(-10, 10), noise), 500
    x = make(30)(data, zeros(2, n // 2, 5, 6), None, Rng([8, 9])).flatten(0, 1)
    mean, variance = law(make(30), data)
    power = modes(x - mean).mean(0) / variance
    bands = torch.from_numpy(wavenumbers(5, 6)).round()
    for band in bands.unique():
        # n images of at least half as many independent squared normals as modes
        count = n * max((bands == band).sum().item() / 2, 1)
        assert power[bands == band].mean().item() == pytest.approx(1, abs=4 * (2 / count) ** 0.5)
    error = (variance.mean() / n).sqrt() * 4
    assert (x.mean(0) - mean).abs().max() < 4 * error


@pytest.mark.parametrize("name", ["ddim", "ddpm small", "ddim full", "ddim half", "dpm-solver"])
@every_schedule
def test_more_steps_are_better(name, process):
    data = gaussian(process, GaussianFreeField(0.5))
    errors = [((law(SAMPLERS[name](n), data)[1] / data.variance).sqrt() - 1).abs().max() for n in (4, 16, 64)]
    assert errors[0] > 1.5 * errors[1]
    assert errors[1] > 1.5 * errors[2]


@every_schedule
@every_noise
def test_ddpm_with_small_variance_is_ddim_with_full_eta(process, noise):
    data = gaussian(process, noise)
    a = list(DDPM(12, variance=0.0).trajectory(data, white(9, 2, 5, 6), None, Rng([1, 2])))
    b = list(DDIM(12, eta=1.0).trajectory(data, white(9, 2, 5, 6), None, Rng([1, 2])))
    for x, y in zip(a, b, strict=True):
        close(x, y, 1e-9)


# --- batches, types, extremes -----------------------------------------------------------------------------------------


@crossing("make", SAMPLERS)
def test_a_sample_is_the_same_alone_and_in_a_batch(make, process, noise):
    data = gaussian(process, noise)
    seeds = [3, 1, 4, 1592]
    together = make(3)(data, zeros(4, 2, 5, 6), None, Rng(seeds))
    for i, seed in enumerate(seeds):
        alone = make(3)(data, zeros(1, 2, 5, 6), None, Rng([seed]))
        assert torch.equal(alone[0], together[i])
    assert len({row.sum().item() for row in together}) == 4


@crossing("make", SAMPLERS)
def test_single_precision_agrees_with_double(make, process, noise):
    data = gaussian(process, noise)
    single = make(8)(data, zeros(2, 5, 6).float(), None, Rng([1, 2]))
    assert single.dtype == torch.float32
    double = make(8)(data, zeros(2, 5, 6), None, Rng([1, 2]))
    torch.testing.assert_close(single.double(), double, atol=2e-3, rtol=2e-3)


@every_sampler
@every_noise
def test_pure_noise_at_the_start_is_no_trouble(make, noise):
    for steps in (1, 2, 3, 10, 50):
        data = gaussian(SCHEDULES["flow"], noise)
        x = make(steps)(data, zeros(2, 5, 6), None, Rng([1, 2]))
        assert x.isfinite().all()
        # Langevin cannot follow a straight line and stays too wide.
        assert (x - data.mean).abs().max() < (40 if isinstance(make(1), langevin.Langevin) else 8)


# --- the whole house --------------------------------------------------------------------------------------------------


def test_everything_at_once_simply_runs():
    """Field noise, v-target, DPM-Solver++, classifier-free guidance, video through a U-Net."""
    network = UNet(
        3 * 2, 3 * 2 * 2, width=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=8, dropout=0.0
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    plain = Denoiser(network, cosine(-16, 12), V(), noise=GaussianFreeField(1.0))
    model = ClassifierFree(plain, 2.0)
    assert isinstance(model, nn.Module)
    like, cond = torch.zeros(3, 3, 2, 8, 12), white(10, 3, 6, 2, 8, 12).float()
    together = DPMSolver(6)(model, like, cond, Rng([1, 2, 3]))
    assert together.shape == like.shape
    assert together.isfinite().all()
    assert together.std() > 0.1
    for i in range(3):
        alone = DPMSolver(6)(model, like[i : i + 1], cond[i : i + 1], Rng([i + 1]))
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-4)
    unguided = DPMSolver(6)(plain, like, cond, Rng([1, 2, 3]))
    assert (unguided - together).abs().max() > 1e-2
    other = DPMSolver(6)(model, like, cond.flip(0), Rng([1, 2, 3]))
    assert (other - together)[0].abs().max() > 1e-2
