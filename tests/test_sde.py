"""Stochastic differential equations: coefficients, marginals, and the samplers that are their discretisations."""

import math

import pytest
import torch

from framefill.diffusion import sde
from framefill.diffusion.noise import GaussianFreeField
from framefill.diffusion.sample import DDIM, DDPM
from framefill.diffusion.schedule import Level, levels, smld, vp
from gaussian import EXPLODING, NOISES, SCHEDULES, gaussian, noise_power, table, white
from test_sample import pairs, step

SMOOTH = {name: process for name, process in SCHEDULES.items() if name != "smld levels"}
every_schedule = pytest.mark.parametrize("process", **table(SMOOTH))
every_noise = pytest.mark.parametrize("noise", **table(NOISES))
# Between the entries of every table, where they are smooth.
TIMES = torch.tensor([0.10005, 0.33335, 0.71235, 0.93335], dtype=torch.float64)


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_the_textbook_coefficients():
    f, g_squared = sde.coefficients(vp(0.1, 20.0), TIMES)
    beta = 0.1 + 19.9 * TIMES
    close(f, -beta / 2)
    close(g_squared, beta)
    f, g_squared = sde.coefficients(smld(0.01, 50.0), TIMES)
    assert (f == 0).all()
    sigma = smld(0.01, 50.0)(TIMES)[1]
    close(g_squared, 2 * math.log(5000) * sigma**2)


@every_schedule
def test_the_forward_equation_has_the_marginals_of_the_schedule(process):
    # dm/dt = f m and dV/dt = 2 f V + g^2, against differences of alpha and sigma^2.
    f, g_squared = sde.coefficients(process, TIMES)
    h = 2e-6
    (a0, s0), (a, s), (a1, s1) = (process(TIMES + k * h) for k in (-1, 0, 1))
    torch.testing.assert_close(f * a, (a1 - a0) / (2 * h), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(2 * f * s**2 + g_squared, (s1**2 - s0**2) / (2 * h), rtol=1e-4, atol=1e-6)
    assert (g_squared > 0).all()


@every_schedule
@every_noise
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_reverse_equation_keeps_the_marginal_for_any_chance(process, noise, chance):
    # Backwards, the variance of each mode follows dV/dt = 2 drift V - chance^2 g^2 n: the growth of the marginal.
    data, z, h = gaussian(process, noise), white(0, 1, 5, 6), 2e-6
    for t in TIMES:
        alpha, g_squared = process(t[None])[0], sde.coefficients(process, t[None])[1]
        centre = alpha * data.mean
        drift = [sde.reverse_drift(data, x, t[None], chance=chance) for x in (centre + z, centre[None])]
        slope = (torch.fft.fft2(drift[0] - drift[1]) / torch.fft.fft2(z)).real[0]
        before, now, after = (
            data.marginal(Level(0.0, *(v.item() for v in process(t[None] + k * h)))) for k in (-1, 0, 1)
        )
        growth = 2 * slope * now - chance**2 * g_squared * noise_power(noise, 5, 6)
        torch.testing.assert_close(growth, (after - before) / (2 * h), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("process", **table({name: SCHEDULES[name] for name in EXPLODING}))
def test_ddpm_with_large_variance_is_euler_and_maruyama_of_the_exploding_sde(process):
    # x + (sigma_t^2 - sigma_s^2) Sigma score + sqrt(sigma_t^2 - sigma_s^2) n' (Song et al. 2021, eq. 47).
    data, x, n = gaussian(process, GaussianFreeField(1.0)), white(1, 2, 5, 6), white(2, 2, 5, 6)
    for t, s in pairs(process):
        n_hat = (x - data(x, torch.full((2,), t.t).double(), None)) / t.sigma
        room = t.sigma**2 - s.sigma**2
        expected = x - room * n_hat / t.sigma + math.sqrt(room) * n
        close(step(DDPM(1, variance=1.0), data, x, t, s, n), expected)


@pytest.mark.parametrize(("sampler", "chance"), [(DDPM(1, variance=1.0), 1.0), (DDIM(1), 0.0), (DDIM(1, eta=1.0), 1.0)])
@every_schedule
def test_short_steps_are_steps_of_the_reverse_equation(sampler, chance, process):
    data, x = gaussian(process, GaussianFreeField(0.5)), white(3, 2, 5, 6)
    h = 1e-5
    for time in TIMES:
        t, s = levels(process, torch.stack([time, time - h]))
        times = torch.full((2,), t.t, dtype=torch.float64)
        moved = (step(sampler, data, x, t, s, 0 * x) - x) / -h
        drift = sde.reverse_drift(data, x, times, chance=chance)
        torch.testing.assert_close(moved, drift, rtol=5e-3, atol=5e-3 * drift.abs().max().item())
        added = step(sampler, data, x, t, s, x) - step(sampler, data, x, t, s, 0 * x)
        g = chance * sde.coefficients(process, times[:1])[1].sqrt() * math.sqrt(h)
        torch.testing.assert_close(added, g * x, rtol=5e-3, atol=1e-12)
