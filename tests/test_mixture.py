"""Samplers on a mixture of two Gaussians, where nothing is linear: shares, means and spectra of the samples."""

import math

import pytest
import torch

from framefill.arrays import Rng
from framefill.diffusion.langevin import Langevin
from framefill.diffusion.schedule import CLEAN, smld
from gaussian import DETERMINISTIC, NOISES, SAMPLERS, SCHEDULES, modes, table
from test_likelihood import SIZE, Mixture

every_noise = pytest.mark.parametrize("noise", **table(NOISES))


def far_apart(process, noise):
    """A mixture whose parts do not overlap, so that every sample can be counted to one."""
    data = Mixture(process, noise)
    data.parts[1].mean = data.parts[0].mean + 5
    return data


def check(x, data, excess):
    """Share, means and mode variances of samples within 4 standard errors and `excess` of the parts' own variance."""
    first = data.joint(x, CLEAN).argmax(0) == 0
    share, n = math.exp(data.logs[0]), len(x)
    assert first.double().mean().item() == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5 + 0.02)
    for part, mine in zip(data.parts, (x[first], x[~first]), strict=True):
        error = (part.variance.mean() / len(mine)).sqrt()
        assert (mine.mean(0) - part.mean).abs().max() < 4 * error + 0.05
        ratio = modes(mine - mine.mean(0)).mean(0) / part.variance
        assert (ratio - 1).abs().max() < 4.5 * (2 / len(mine)) ** 0.5 + excess


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "langevin"])
@every_noise
def test_samples_have_the_shares_means_and_spectra_of_the_parts(name, noise):
    data = far_apart(SCHEDULES["cosine 20"], noise)
    x = SAMPLERS[name](60)(data, torch.zeros(400, *SIZE, dtype=torch.float64), None, Rng(range(400)))
    check(x, data, 0.05 if name in DETERMINISTIC else 0.15)


@pytest.mark.slow
@every_noise
def test_langevin_finds_both_parts(noise):
    data = far_apart(smld(0.05, 20.0), noise)
    x = Langevin(80, rate=0.1, repeats=4)(data, torch.zeros(300, *SIZE, dtype=torch.float64), None, Rng(range(300)))
    check(x, data, 0.3)
