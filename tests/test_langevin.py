"""Langevin samplers and what goes with them: their laws in closed form, per Fourier mode, for every noise.

On Gaussian data each is linear, and `law` of test_sample.py gives its exact mean and variance without random numbers.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.diffusion import scales, score
from framefill.diffusion.langevin import Consistent, Langevin
from framefill.diffusion.noise import GaussianFreeField, White
from framefill.diffusion.sample import DDIM
from framefill.diffusion.schedule import CLEAN, Level, levels, smld
from framefill.errors import BadInput
from gaussian import EXPLODING, NOISES, SCHEDULES, Gaussian, gaussian, modes, noise_power, table, wavenumbers, white
from test_sample import Known, law, pairs, step

every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))


def point(process, noise, height=5, width=6):
    """Data that is one image."""
    data = gaussian(process, noise, height, width)
    return Gaussian(process, noise, data.mean, torch.zeros_like(data.variance))


# --- one step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", **table({name: SCHEDULES[name] for name in EXPLODING}))
@every_noise
def test_an_update_is_unadjusted_langevin_with_the_drift_preconditioned(process, noise):
    # x + a Sigma grad log p + sqrt(2 a) sqrt(Sigma) z, a = rate sigma^2, for the density of the data itself.
    data, x_t, z = gaussian(process, noise), white(0, 2, 5, 6), white(1, 2, 5, 6)
    for t, s in pairs(process):
        inverse = 1 / data.marginal(t)
        covariance = noise_power(noise, 5, 6)
        gradient = -torch.fft.ifft2(torch.fft.fft2(x_t - data.mean) * inverse * covariance).real
        a = 0.3 * t.sigma**2
        expected = x_t + a * gradient + math.sqrt(2 * a) * noise.color(z)
        got = step(Langevin(1, rate=0.3), data, x_t, t, s, noise.color(z))
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


@every_schedule
def test_an_update_is_the_same_in_any_parametrisation(process):
    # x_t / alpha of any schedule is SMLD with scale sigma / alpha.
    data, x_t, z = gaussian(process, White()), white(2, 2, 5, 6), white(3, 2, 5, 6)
    for t, s in pairs(process):
        if t.alpha == 0:
            continue
        x_hat = data(x_t, torch.full((2,), t.t, dtype=torch.float64), None)
        u, ratio = x_t / t.alpha, t.sigma / t.alpha
        u = u + 0.2 * ratio**2 * (x_hat - u) / ratio**2 + math.sqrt(0.4) * ratio * z
        got = step(Langevin(1, rate=0.2), data, x_t, t, s, z)
        torch.testing.assert_close(got, s.alpha * u, atol=1e-8, rtol=1e-9)


@every_schedule
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.6])
def test_the_consistent_step_keeps_the_variance_of_the_noise(process, rate):
    x, n, z = white(0, 1, 3, 3), white(1, 1, 3, 3), white(2, 1, 3, 3)
    for t, s in pairs(process):

        def at(n, z, t=t, s=s):
            return step(Consistent(1, rate=rate), Known(process, x), t.alpha * x + t.sigma * n, t, s, z) - s.alpha * x

        kept, added = at(n, 0 * z) / n, at(0 * n, z) / z
        torch.testing.assert_close(kept**2 + added**2, torch.full_like(x, s.sigma**2), atol=1e-9, rtol=1e-9)
        gamma = math.inf if t.alpha == 0 else t.sigma * s.alpha / (t.alpha * s.sigma)
        expected = s.sigma * min(gamma * (1 - rate), 1)
        torch.testing.assert_close(kept, torch.full_like(x, expected), atol=1e-9, rtol=1e-9)


def test_the_consistent_step_is_equation_2_5_11():
    # x_i + eta sigma_i^2 s + beta sigma_(i-1) z, beta^2 = 1 - gamma^2 (1 - eta)^2.
    data, x, z = gaussian(smld(), White()), white(4, 2, 5, 6), white(5, 2, 5, 6)
    for t, s in pairwise(Consistent(231).path(data)[:-1]):
        gamma, eta = t.sigma / s.sigma, 0.056
        beta = math.sqrt(1 - gamma**2 * (1 - eta) ** 2)
        assert beta == pytest.approx(0.20165886, abs=2e-6)  # published program, facts 4.2
        times = torch.full((2,), t.t, dtype=torch.float64)
        expected = x + eta * t.sigma**2 * score.score(data, x, times) + beta * s.sigma * z
        got = step(Consistent(1, rate=eta), data, x, t, s, z)
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


@every_schedule
def test_between_no_noise_and_the_ancestral_noise_it_is_ddim(process):
    # rate = 1 - 1 / gamma is deterministic, rate = 1 - 1 / gamma^2 is ancestral.
    data, x, z = gaussian(process, White()), white(6, 2, 5, 6), white(7, 2, 5, 6)
    for t, s in pairs(process):
        if t.alpha == 0:
            continue
        gamma = math.exp(s.log_ratio - t.log_ratio)
        for power, eta in ((1, 0.0), (2, 1.0)):
            mine = step(Consistent(1, rate=1 - gamma**-power), data, x, t, s, z)
            # 1 - rate is a small difference where the first step is very long.
            torch.testing.assert_close(mine, step(DDIM(1, eta=eta), data, x, t, s, z), atol=2e-5, rtol=2e-5)


# --- where Langevin settles -------------------------------------------------------------------------------------------


def settled(noise, variance, rate, sigma=0.7, updates=400):
    """The variance per mode after many updates at one level, from the exact law, over that of the level."""
    data = gaussian(lambda t: (torch.ones_like(t), torch.full_like(t, sigma)), noise, 8, 8)
    data.variance = variance
    level = Level(0.5, 1.0, sigma)
    probe, steps = white(8, 1, 8, 8), []
    zero = torch.zeros_like(probe)
    for x, draw in ((probe, zero), (zero, noise.color(probe))):
        moved = step(Langevin(1, rate=rate), data, x + data.mean, level, level, draw) - data.mean
        steps.append((torch.fft.fft2(moved) / torch.fft.fft2(probe)).real[0])
    shrink, added = steps
    v = data.marginal(level)
    for _ in range(updates):
        v = shrink**2 * v + added**2
    return v / data.marginal(level)


@every_noise
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
def test_one_level_settles_at_the_closed_form(noise, rate):
    variance = 0.1 + 0.5 / torch.from_numpy(wavenumbers(8, 8))
    power = noise_power(noise, 8, 8)
    share = 0.49 * power / (variance + 0.49 * power)
    expected = 1 / (1 - rate * share / 2)
    torch.testing.assert_close(settled(noise, variance, rate, updates=4000), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.06, 0.5])
def test_field_noise_has_the_bias_of_white_noise_in_every_band(rate):
    # Where the data has the covariance of the noise (a point among them), the bias is one number for all modes.
    for share in (0.0, 0.4):
        bias = {}
        for name, noise in NOISES.items():
            bias[name] = settled(noise, share * noise_power(noise, 8, 8), rate)
            assert (bias[name] / bias["white"] - 1).abs().max() < 1e-9
        assert bias["white"].mean() == pytest.approx(1 / (1 - rate * 0.49 / (share + 0.49) / 2), rel=1e-6)


def chain(path, noise, mean, variance, sampler):
    """Mean and variance per mode of the samples, in numpy, from the stochastic recursion of u = x / alpha."""
    ratio = path[0].sigma / path[0].alpha
    law_mean, law_variance = 0 * mean, ratio**2 * noise
    for t, s in pairwise(path):
        ratio = t.sigma / t.alpha
        slope = variance / (variance + ratio**2 * noise)
        kept, added = 0.0, 0.0
        if s != CLEAN and isinstance(sampler, Langevin):
            kept, added = 1 - sampler.rate, 2 * sampler.rate * ratio**2
        elif s != CLEAN:
            kept = min(1 - sampler.rate, s.sigma / s.alpha / ratio)
            added = (s.sigma / s.alpha) ** 2 - kept**2 * ratio**2
        gain = slope + kept * (1 - slope)
        law_mean = gain * law_mean + (1 - kept) * (1 - slope) * mean
        law_variance = gain**2 * law_variance + added * noise
    return law_mean, law_variance


@every_noise
@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "flow"])
@pytest.mark.parametrize("sampler", [Langevin(20, rate=0.3), Consistent(20, rate=0.3)], ids=["langevin", "consistent"])
def test_whole_runs_follow_the_recursion(sampler, name, noise):
    data = gaussian(SCHEDULES[name], noise)
    mean, variance = law(sampler, data)
    power = noise_power(noise, 5, 6).numpy()
    expected_mean, expected = chain(
        sampler.path(data), power, torch.fft.fft2(data.mean).numpy(), data.variance.numpy(), sampler
    )
    np.testing.assert_allclose(variance.numpy(), expected, rtol=1e-7)
    np.testing.assert_allclose(torch.fft.fft2(mean).numpy(), expected_mean, rtol=1e-7, atol=1e-7)


@every_noise
def test_random_runs_with_repeats_have_the_closed_form_spectrum(noise):
    """Through real draws, the automatic rate: every band within 4 standard errors and 3 % of the closed form."""
    data = gaussian(smld(0.3, 4.0), noise)
    sampler = Langevin(30, rate=0.2, repeats=4)
    assert sampler.calls == 120
    n = 6000
    x = sampler(data, torch.zeros(1, n, 5, 6, dtype=torch.float64), None, Rng([3]))[0]
    _, variance = chain(
        sampler.path(data), noise_power(noise, 5, 6).numpy(), np.zeros((5, 6)), data.variance.numpy(), sampler
    )
    power = modes(x - x.mean(0)).mean(0) / torch.from_numpy(variance)
    bands = torch.from_numpy(wavenumbers(5, 6)).round()
    for band in bands.unique():
        count = n * max((bands == band).sum().item() / 2, 1)
        assert power[bands == band].mean().item() == pytest.approx(1, abs=4 * (2 / count) ** 0.5)
    for band in (bands > 1, bands <= 1):
        assert power[band].mean().item() == pytest.approx(1, abs=0.03)


def test_repeats_visit_every_level_as_often():
    data = gaussian(smld(), White())
    path = Langevin(3, repeats=2).path(data)
    assert [level.t for level in path] == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 0])
    assert path[-1] == CLEAN
    Langevin(3, repeats=2)(data, torch.zeros(1, 5, 6, dtype=torch.float64), None, Rng([0]))
    assert len(data.calls) == Langevin(3, repeats=2).calls == 6


@pytest.mark.parametrize("kind", [Langevin, Consistent])
@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0, float("nan")])
def test_rates_outside_the_stable_interval_are_refused(kind, rate):
    with pytest.raises(BadInput, match=f"rate of Langevin sampling must lie between 0 and 1, got {rate}"):
        kind(10, rate=rate)


def test_no_updates_are_refused():
    with pytest.raises(BadInput, match="at least 1 update per level, got repeats = 0"):
        Langevin(10, repeats=0)


# --- automatic scales -------------------------------------------------------------------------------------------------


@every_noise
def test_the_largest_scale_is_the_largest_mahalanobis_distance(noise):
    x = white(10, 300, 2, 3, 4)
    x[7] += 3
    basis = torch.eye(12, dtype=torch.float64).reshape(12, 3, 4)
    root = noise.color(basis).reshape(12, 12)
    inverse = torch.linalg.inv(root @ root)
    flat = x.reshape(300, 2, 12)
    d = flat[7] - flat
    distances = torch.einsum("nci,ij,ncj->n", d, inverse, d).sqrt()
    assert scales.largest_scale(x, noise) == pytest.approx(distances.max().item(), rel=1e-6)
    with pytest.raises(BadInput, match="needs at least 2, got 1"):
        scales.largest_scale(x[:1], noise)


def test_overlap_is_the_chance_to_fall_between():
    # |x| of Gaussians of neighbouring scales, counted.
    D, ratio = 500, 1.08
    r = ratio * torch.randn(4000, D, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    centre, width = D**0.5, 3 * 0.5**0.5
    # The share of the smaller scale's three-sigma interval, seen from the larger; the formula swaps the two widths.
    counted = ((r > centre - width) & (r < centre + width)).double().mean().item()
    shift = (2 * D) ** 0.5 * (1 / ratio - 1)
    phi = torch.distributions.Normal(0.0, 1.0).cdf
    direct = (phi(torch.tensor(shift + 3 / ratio)) - phi(torch.tensor(shift - 3 / ratio))).item()
    assert counted == pytest.approx(direct, abs=0.03)
    assert scales.overlap(1 / ratio, D) == pytest.approx(direct, abs=1e-6)


@pytest.mark.parametrize(("dimensions", "share"), [(8, 0.5), (64, 0.3), (3072, 0.5), (3072, 0.9), (10**6, 0.5)])
def test_the_ratio_gives_the_share_asked_for(dimensions, share):
    ratio = scales.scale_ratio(dimensions, share)
    assert ratio > 1
    assert scales.overlap(ratio, dimensions) == pytest.approx(share, abs=1e-9)


def test_the_published_scales():
    # Facts 4.2 and 6.3.11: CIFAR-10, 50 to 0.01, ratio 1.0376, L = 232; from 20, L = 207; overlap .566.
    assert scales.overlap(1.0376, 3072) == pytest.approx(0.566, abs=5e-4)
    assert scales.scale_ratio(3072, 0.566) == pytest.approx(1.0376, abs=1e-4)
    ratio = 5000 ** (1 / 231)
    rate = scales.step_size(ratio, 5)
    assert rate * 0.01**2 == pytest.approx(6.2e-6, rel=5e-3)
    assert scales.relaxation(ratio, rate, 5) == pytest.approx(1.0555, abs=1e-4)


@every_noise
@pytest.mark.parametrize("repeats", [1, 3])
def test_relaxation_is_the_variance_of_a_point_between_two_scales(noise, repeats):
    data, rate = point(lambda t: (torch.ones_like(t), torch.full_like(t, 0.5)), noise), 0.15
    level = Level(0.5, 1.0, 0.5)
    variance = (1.3 * 0.5) ** 2 * torch.ones(5, 6, dtype=torch.float64)  # whitened
    for _ in range(repeats):
        probe = white(11, 1, 5, 6)
        kept = step(Langevin(1, rate=rate), data, data.mean + probe, level, level, 0 * probe) - data.mean
        added = step(Langevin(1, rate=rate), data, data.mean + 0 * probe, level, level, noise.color(probe)) - data.mean
        kept = (torch.fft.fft2(kept) / torch.fft.fft2(probe)).real[0]
        added = (torch.fft.fft2(noise.whiten(added)) / torch.fft.fft2(probe)).real[0]
        variance = kept**2 * variance + added**2
    expected = torch.full_like(variance, scales.relaxation(1.3, rate, repeats))
    torch.testing.assert_close(variance / 0.25, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("ratio", [1.001, 1.0376, 1.3, 3.0, 50.0])
@pytest.mark.parametrize("repeats", [1, 2, 5, 20])
def test_the_step_size_is_the_best_one(ratio, repeats):
    best = abs(scales.relaxation(ratio, scales.step_size(ratio, repeats), repeats) - 1)
    others = [abs(scales.relaxation(ratio, rate, repeats) - 1) for rate in np.linspace(1e-4, 0.9999, 2000)]
    assert best <= min(others) + 1e-9


@every_noise
@pytest.mark.parametrize(("share", "repeats", "excess"), [(0.5, 5, 0.52), (0.9, 20, 0.18), (0.98, 20, 0.12)])
def test_automatic_scales_sample_the_data_they_were_made_for(noise, share, repeats, excess):
    # 36 dimensions: a hard case, the fewest scales. More overlap and more updates come closer, never from below.
    data = gaussian(smld(), noise, 6, 6)
    x = data.draw(Level(0.0, 1.0, 0.0), white(12, 200, 6, 6))
    chosen = scales.automatic(x, noise, sigma_min=0.05, repeats=repeats, share=share)
    assert chosen.sigma_max == scales.largest_scale(x, noise)
    assert chosen.ratio <= scales.scale_ratio(36, share)
    assert chosen.rate == pytest.approx(scales.step_size(chosen.ratio, repeats))
    data = Gaussian(chosen.schedule(), noise, data.mean, data.variance)
    path = chosen.sampler().path(data)
    sigmas = np.array([level.sigma for level in path[:-1:repeats]])
    np.testing.assert_allclose(sigmas[:-1] / sigmas[1:], chosen.ratio, rtol=1e-9)
    power = noise_power(noise, 6, 6).numpy()
    _, variance = chain(path, power, np.zeros((6, 6)), data.variance.numpy(), chosen.sampler())
    ratio = variance / data.variance.numpy()
    assert ratio.min() > 0.99
    assert ratio.max() < 1 + excess


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scales.scale_ratio(4), r"at least 8 dimensions .* got 4 and 0\.5"),
        (lambda: scales.scale_ratio(100, 1.0), r"share in \[0\.01, 0\.99\], got 100 and 1\.0"),
        (lambda: scales.step_size(1.0, 5), r"ratio > 1 .* got 1\.0 and 5"),
        (lambda: scales.step_size(1.1, 0), r"repeats >= 1, got 1\.1 and 0"),
        (lambda: scales.automatic(white(0, 3, 4, 4), White(), sigma_min=99.0), r"sigma_min must lie .* got 99\.0"),
    ],
)
def test_scales_that_cannot_be_chosen_are_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


# --- scores -----------------------------------------------------------------------------------------------------------


@every_schedule
@every_noise
def test_the_score_is_the_gradient_of_the_log_density(process, noise):
    data, x = gaussian(process, noise), white(13, 2, 5, 6)
    for t in levels(process, torch.tensor([0.25, 0.9])):
        precision = torch.linalg.inv(dense(data.marginal(t)))
        expected = -(x - t.alpha * data.mean).flatten(1) @ precision
        got = score.score(data, x, torch.full((2,), t.t, dtype=torch.float64))
        torch.testing.assert_close(got.flatten(1), expected, atol=1e-7, rtol=1e-7)


def dense(power):
    basis = torch.eye(power.numel(), dtype=torch.float64).reshape(-1, *power.shape)
    return torch.fft.ifft2(torch.fft.fft2(basis) * power).real.flatten(1)


@every_schedule
@every_noise
def test_the_expected_denoised_sample_comes_back_from_the_score(process, noise):
    data, x = gaussian(process, noise), white(14, 3, 5, 6)
    model = score.ScoreModel(lambda x, t, cond: score.score(data, x, t, cond), process, noise)
    times = torch.tensor([0.2, 0.6, 0.97], dtype=torch.float64)
    torch.testing.assert_close(model(x, times, None), data(x, times, None), atol=1e-7, rtol=1e-7)


def test_the_published_number_of_the_denoised_sample():
    # Facts, chapter 2: dividing by alpha or not; N(0, 1) data has E[x | x_t] = alpha x_t.
    data = Gaussian(SCHEDULES["ddpm"], White(), torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    times, x = torch.tensor([0.3], dtype=torch.float64), torch.full((1, 1, 1), 1.1, dtype=torch.float64)
    alpha, sigma = data.schedule(times)
    got = score.expected_denoised(score.score(data, x, times), x, alpha, sigma, GaussianFreeField(0.0))
    assert got.item() == pytest.approx(alpha.item() * 1.1, rel=1e-9)
