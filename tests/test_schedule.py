"""Schedules: shared properties over every member, closed forms, and the published DDPM table."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framefill.arrays import Rng
from framefill.diffusion import schedule
from framefill.diffusion.schedule import (
    CLEAN,
    Level,
    cosine,
    ddpm,
    edm,
    flow,
    iddpm,
    latent,
    levels,
    shifted,
    signal_to_noise,
    smld,
    table_times,
    uniform_times,
    vp,
)
from framefill.errors import BadInput
from gaussian import EXPLODING, PRESERVING, SCHEDULES, public, table

PARITY = json.loads((Path(__file__).parent / "parity" / "mcvd.json").read_text())
TIMES = torch.linspace(0, 1, 4001, dtype=torch.float64)
every_schedule = pytest.mark.parametrize("process", **table(SCHEDULES))


def named(names):
    return pytest.mark.parametrize("process", **table({name: SCHEDULES[name] for name in names}))


def close(a, b, tolerance=1e-13):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float64), atol=tolerance, rtol=tolerance)


def test_the_table_has_every_member():
    assert {name.split()[0] for name in SCHEDULES} == public(
        schedule, lambda f: f.__annotations__.get("return") == schedule.Schedule
    )


@every_schedule
def test_signal_to_noise_falls(process):
    alpha, sigma = process(TIMES)
    ratio = torch.log(alpha) - torch.log(sigma)
    if process is SCHEDULES["smld levels"]:
        assert (ratio.diff() <= 0).all()
        assert (ratio.diff() < 0).sum() == 256
    else:
        assert (ratio.diff() < 0).all()
    assert (alpha >= 0).all()
    assert (sigma >= 0).all()


@every_schedule
def test_every_schedule_works_in_float64_and_point_by_point(process):
    # Half of a grid is exact in float32, so that only the arithmetic can lose digits.
    times = torch.arange(0, 65, dtype=torch.float64) / 64
    alpha, sigma = process(times)
    single = process(times.float())
    assert alpha.dtype == sigma.dtype == torch.float64
    assert torch.equal(single[0], alpha)
    assert torch.equal(single[1], sigma)
    shuffled = torch.randperm(65, generator=torch.Generator().manual_seed(0))
    assert torch.equal(process(times[shuffled])[1], sigma[shuffled])
    for i in (0, 13, 64):
        a, s = process(times[i].reshape(1))
        close(a[0], alpha[i], 1e-15)
        close(s[0], sigma[i], 1e-15)
    assert process(times.reshape(5, 13))[0].shape == (5, 13)


@named(PRESERVING)
def test_variance_is_preserved(process):
    alpha, sigma = process(TIMES)
    close(alpha**2 + sigma**2, torch.ones(4001), 3e-16)


@named(EXPLODING)
def test_the_signal_is_kept(process):
    assert (process(TIMES)[0] == 1).all()


def test_flow_is_a_straight_line():
    alpha, sigma = flow()(TIMES)
    assert torch.equal(alpha, 1 - TIMES)
    assert torch.equal(sigma, TIMES)


@given(st.floats(-30, 29), st.floats(0.1, 40))
@settings(max_examples=50, deadline=None, database=None)
def test_cosine_runs_between_its_log_ratios_at_even_angles(lambda_min, width):
    lambda_max = lambda_min + width
    alpha, sigma = cosine(lambda_min, lambda_max)(torch.linspace(0, 1, 9, dtype=torch.float64))
    log_ratio = 2 * (alpha.log() - sigma.log())
    assert log_ratio[0].item() == pytest.approx(lambda_max, abs=1e-8)
    assert log_ratio[-1].item() == pytest.approx(lambda_min, abs=1e-8)
    angles = torch.atan2(sigma, alpha)
    close(angles.diff(), ((angles[-1] - angles[0]) / 8).expand(8), 1e-12)


def test_ddpm_is_the_cumulative_product():
    beta = np.linspace(1e-4, 0.02, 1000, dtype=np.float64)
    alpha_bar = np.cumprod(1 - beta)
    k = torch.arange(1, 1001, dtype=torch.float64)
    for times in (k / 1000, k * 0.001, 1 - (1000 - k) / 1000):
        alpha, sigma = ddpm()(times)
        close(alpha**2, alpha_bar, 1e-13)
        np.testing.assert_allclose((sigma**2).numpy(), 1 - alpha_bar, rtol=1e-11)
        # On the table, not beside it: entry k over entry k - 1 is 1 - beta_k to rounding.
        np.testing.assert_allclose((alpha[1:] / alpha[:-1]).square().numpy(), 1 - beta[1:], rtol=1e-14)
    assert [v.item() for v in ddpm()(torch.zeros(1))] == [1, 0]


def test_ddpm_equals_the_published_table():
    facts = PARITY["schedule_linear"]["value"]
    label = torch.tensor(facts["label_index"], dtype=torch.float64)
    alpha, sigma = ddpm()((1000 - label) / 1000)
    np.testing.assert_allclose((alpha**2).numpy(), facts["alpha_bar_f64"], rtol=1e-12)
    np.testing.assert_allclose((alpha**2).numpy(), facts["alpha_bar_f32"], rtol=1e-6)
    before = ddpm()((999 - label) / 1000)[0]
    np.testing.assert_allclose((before**2).numpy(), facts["alpha_bar_prev_f32"], rtol=1e-6)
    np.testing.assert_allclose(1 - (alpha / before).square().numpy(), facts["betas_f32"], rtol=1e-6)
    assert sigma[0].item() == pytest.approx(math.sqrt(1 - 4.0358297653756754e-05), abs=1e-15)


@pytest.mark.parametrize(("steps", "low", "high"), [(1, 0.1, 0.1), (2, 0.1, 0.5), (10, 1e-3, 0.9), (1000, 1e-4, 0.02)])
def test_ddpm_interpolates_the_logarithm_between_entries(steps, low, high):
    beta = np.linspace(low, high, steps)
    log_table = np.concatenate([[0], np.cumsum(np.log(1 - beta))])
    alpha, _ = ddpm(steps, low, high)(TIMES)
    expected = np.interp(TIMES.numpy() * steps, np.arange(steps + 1), log_table)
    np.testing.assert_allclose(2 * alpha.log().numpy(), expected, atol=1e-9)


def test_the_table_of_latent_diffusion():
    beta = np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
    alpha, _ = latent()(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    np.testing.assert_allclose((alpha**2).numpy(), np.cumprod(1 - beta), rtol=1e-12)


@pytest.mark.parametrize("steps", [10, 1000, 4000])
def test_the_table_of_improved_ddpm(steps):
    # Facts 2.2: cosine with s = .008 and beta <= .999; only the last beta is capped.
    k = np.arange(steps + 1)
    share = np.cos((k / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    alpha, sigma = iddpm(steps)(torch.from_numpy(k / steps))
    np.testing.assert_allclose((alpha**2).numpy()[:-1], (share / share[0])[:-1], rtol=1e-9)
    assert (alpha[-1] / alpha[-2]).square().item() == pytest.approx(0.001)
    assert sigma[0] == 0


@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (1.0, 1.0), (0.5, 4.0)])
def test_the_variance_preserving_sde(low, high):
    # alpha = exp(-1/2 integral beta), the integral by the trapezoidal rule, exact for a line.
    beta = low + (high - low) * TIMES
    integral = torch.cat([torch.zeros(1).double(), ((beta[1:] + beta[:-1]) / 2 * TIMES.diff()).cumsum(0)])
    alpha, _ = vp(low, high)(TIMES)
    close(alpha, (-integral / 2).exp(), 1e-12)
    # DDPM's table with beta / T is its discretisation.
    table = ddpm(1000, 1e-4, 0.02)(TIMES)[0]
    if (low, high) == (0.1, 20.0):
        assert (alpha - table).abs().max() < 1e-3


@pytest.mark.parametrize(("sigma_min", "sigma_max", "rho"), [(0.002, 80, 7), (0.01, 10, 1), (0.1, 3, 3.5)])
def test_edm_is_equation_5(sigma_min, sigma_max, rho):
    n = 18
    i = np.arange(n)
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    expected = (a + i / (n - 1) * (b - a)) ** rho
    sigma = edm(sigma_min, sigma_max, rho)(torch.linspace(1, 0, n, dtype=torch.float64))[1]
    np.testing.assert_allclose(sigma.numpy(), expected, rtol=1e-12)
    assert sigma[0].item() == pytest.approx(sigma_max)
    assert sigma[-1].item() == pytest.approx(sigma_min)


@pytest.mark.parametrize("process", [smld(), smld(levels=232)], ids=["continuous", "discrete"])
def test_smld_is_geometric(process):
    # Facts of thesis 001, section 4.2: 50 to 0.01 in 232 levels, ratio 1.0375591.
    sigma = process(torch.arange(232, dtype=torch.float64) / 231)[1]
    np.testing.assert_allclose(sigma.numpy(), np.geomspace(0.01, 50, 232), rtol=1e-12)
    assert (sigma[1:] / sigma[:-1]).mean().item() == pytest.approx(1.0375591, abs=1e-7)


@pytest.mark.parametrize("count", [2, 3, 10, 232])
def test_discrete_smld_takes_only_its_levels_the_nearest_one(count):
    sigma = smld(0.1, 7.0, levels=count)(TIMES)[1]
    allowed = np.geomspace(0.1, 7.0, count)
    nearest = np.abs(TIMES.numpy()[:, None] * (count - 1) - np.arange(count)).min(1)
    places = np.log(sigma.numpy() / 0.1) / np.log(70) * (count - 1)
    assert len(np.unique(sigma.numpy())) == count
    np.testing.assert_allclose(places, places.round(), atol=1e-9)
    np.testing.assert_allclose(np.abs(places - TIMES.numpy() * (count - 1)), nearest, atol=1e-9)
    np.testing.assert_allclose(np.unique(sigma.numpy()), allowed, rtol=1e-12)


@every_schedule
@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_shifted_multiplies_the_ratio_and_keeps_the_sum(process, factor):
    alpha, sigma = process(TIMES)
    a, s = shifted(process, factor)(TIMES)
    close(a**2 + s**2, alpha**2 + sigma**2, 1e-12)
    close(s * alpha, factor * sigma * a, 1e-12)
    assert (a >= 0).all()
    if factor == 1:
        close(a, alpha, 1e-15)
        close(s, sigma, 1e-15)
    back = shifted(shifted(process, factor), 1 / factor)(TIMES)
    close(back[0], alpha, 1e-12)
    close(back[1], sigma, 1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shifted(flow(), 0.0), r"shifted needs factor > 0, got 0\.0"),
        (lambda: shifted(flow(), -2), "shifted needs factor > 0, got -2"),
        (lambda: cosine(3.0, 3.0), r"cosine needs lambda_min < lambda_max, got 3\.0 and 3\.0"),
        (lambda: cosine(20, -20), r"cosine needs lambda_min < lambda_max, got 20 and -20"),
        (lambda: cosine(float("nan")), "got nan"),
        (lambda: ddpm(0), r"steps >= 1 .*got 0, 0\.0001, 0\.02"),
        (lambda: ddpm(10, 0.0, 0.1), r"0 < beta_min <= beta_max < 1, got 10, 0\.0, 0\.1"),
        (lambda: ddpm(10, 0.2, 0.1), r"got 10, 0\.2, 0\.1"),
        (lambda: ddpm(10, 0.2, 1.0), r"got 10, 0\.2, 1\.0"),
        (lambda: latent(0), r"latent needs steps >= 1 .*got 0, 0\.0015, 0\.0195"),
        (lambda: iddpm(10, 0.0), r"iddpm needs .* offset > 0 .*got 10, 0\.0, 0\.999"),
        (lambda: vp(2.0, 1.0), r"vp needs 0 < beta_min <= beta_max, got 2\.0, 1\.0"),
        (lambda: edm(0.0), r"edm needs 0 < sigma_min < sigma_max and rho > 0, got 0\.0, 80\.0, 7\.0"),
        (lambda: edm(2.0, 1.0), r"got 2\.0, 1\.0, 7\.0"),
        (lambda: edm(rho=0), "got 0.002, 80.0, 0"),
        (lambda: smld(-1.0), r"smld needs 0 < sigma_min < sigma_max, got -1\.0, 50\.0"),
        (lambda: smld(5.0, 5.0), r"got 5\.0, 5\.0"),
        (lambda: smld(levels=1), "smld needs at least 2 levels, got 1"),
    ],
)
def test_bad_parameters_are_refused_with_what_was_given(make, message):
    with pytest.raises(BadInput, match=message):
        make()


@every_schedule
def test_levels_are_the_schedule_as_numbers(process):
    times = torch.linspace(1, 0.03, 12, dtype=torch.float64)
    alpha, sigma = process(times)
    for level, t, a, s in zip(levels(process, times), times, alpha, sigma, strict=True):
        assert (level.t, level.alpha, level.sigma) == (t.item(), a.item(), s.item())
        half = math.log(a / s) if a > 0 else -math.inf
        assert level.log_ratio == pytest.approx(half, abs=1e-12)
    ratios = [level.log_ratio for level in levels(process, torch.linspace(1, 1 / 128, 64))]
    assert all(a < b for a, b in pairwise(ratios))


def test_the_clean_level():
    assert Level(t=0.0, alpha=1.0, sigma=0.0) == CLEAN
    assert CLEAN.log_ratio == math.inf
    assert Level(1.0, 0.0, 1.0).log_ratio == -math.inf
    assert Level(0.5, 3.0, 1.5).log_ratio == pytest.approx(math.log(2))


@every_schedule
def test_signal_to_noise_is_its_definition(process):
    alpha, sigma = process(torch.linspace(0.01, 1, 50, dtype=torch.float64))
    close(signal_to_noise(alpha, sigma) * sigma**2, alpha**2, 1e-12)


def test_uniform_times_never_reach_zero():
    t = uniform_times(Rng.batch(0, 20_000))
    assert t.dtype == torch.float64
    assert t.min() > 0
    assert t.max() <= 1
    ranks = t.sort().values
    # Kolmogorov and Smirnov: 1.95 is the 0.1 % point.
    assert (ranks - torch.arange(1, 20_001) / 20_000).abs().max() < 1.95 / 20_000**0.5

    class Zero:
        def uniform(self):
            return torch.zeros(1)

    assert uniform_times(Zero()).item() == 1


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_table_times_are_the_entries_of_the_table(steps):
    t = table_times(steps)(Rng.batch(1, 4000))
    assert t.dtype == torch.float64
    place = (t * steps).round()
    assert torch.equal(t, place / steps)
    counts = torch.bincount(place.long(), minlength=steps + 1).double()
    assert counts[0] == 0
    assert len(counts) == steps + 1
    expected = 4000 / steps
    chi_square = ((counts[1:] - expected) ** 2 / expected).sum()
    assert chi_square <= (steps - 1) + 4 * (2 * (steps - 1)) ** 0.5
