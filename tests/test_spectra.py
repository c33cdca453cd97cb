"""Plane waves are where they belong, and the sum of a spectrum is the mean square."""

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics.spectra import cosine_spectrum, fourier_spectrum, temporal_spectrum, zonal_spectrum


@pytest.mark.parametrize("shape", [(8, 8), (7, 12), (15, 4), (1, 9)])
@pytest.mark.parametrize("spectrum", [fourier_spectrum, cosine_spectrum])
def test_the_sum_is_the_mean_square(spectrum, shape):
    x = np.random.default_rng(0).normal(size=(3, *shape)) + 2
    frequency, power = spectrum(x)
    assert power.sum() == pytest.approx(np.square(x).mean())
    assert power[0] == pytest.approx(np.square(x.mean(axis=(1, 2))).mean())
    assert frequency[0] == 0
    assert len(frequency) == len(power)
    assert np.allclose(np.diff(frequency), 1 / max(shape) / (1 + (spectrum is cosine_spectrum)))


def test_a_plane_wave_is_in_one_ring():
    y, x = np.mgrid[:16, :16]
    frequency, power = fourier_spectrum(3 * np.sin(2 * np.pi * (3 * y + 4 * x) / 16))
    assert power[5] == pytest.approx(4.5)  # the wave number is 5, the mean square of 3 sin is 9 / 2
    assert np.delete(power, 5).max() < 1e-12
    assert frequency[5] == 5 / 16


def test_a_wave_as_long_as_it_may_be_is_judged_per_cell_in_oblong_fields():
    frequency, power = fourier_spectrum(np.cos(2 * np.pi * np.arange(6) / 3)[:, None] * np.ones(24))
    assert frequency[power.argmax()] == pytest.approx(1 / 3)


def test_cosines_are_in_one_ring_and_a_slope_leaves_no_fine_detail():
    i = np.arange(20)
    frequency, power = cosine_spectrum(np.cos(np.pi * 6 * (i + 0.5) / 20)[:, None] * np.ones(20))
    assert power.max() == pytest.approx(0.5)
    assert frequency[power.argmax()] == pytest.approx(0.15)
    slope = np.broadcast_to(np.linspace(-1, 1, 20), (20, 20))
    fine = [s(slope).power[s(slope).frequency > 0.25].sum() for s in (cosine_spectrum, fourier_spectrum)]
    assert fine[0] < fine[1] / 50


@pytest.mark.parametrize("T", [8, 9])
def test_time_series_by_frequency(T):
    x = np.random.default_rng(1).normal(size=(T, 3, 4))
    weights = np.array([1.0, 2, 0])[:, None] * np.ones(4)
    frequency, power = temporal_spectrum(x)
    assert power.sum() == pytest.approx(np.square(x).mean())
    assert temporal_spectrum(x, weights).power.sum() == pytest.approx(
        np.average(np.square(x).mean(axis=0), weights=weights)
    )
    wave = np.cos(2 * np.pi * 2 * np.arange(T) / T)
    frequency, power = temporal_spectrum(wave)
    assert power[2] == pytest.approx(0.5)
    assert frequency[2] == pytest.approx(2 / T)


def test_what_has_no_spectrum():
    for bad in (np.ones(3), np.zeros((0, 3))):
        with pytest.raises(BadInput, match="a spectrum needs"):
            fourier_spectrum(bad)
    with pytest.raises(BadInput, match="series of 2 or more"):
        temporal_spectrum(np.ones((1, 3)))
    with pytest.raises(BadInput, match="choose a part without land"):
        cosine_spectrum(np.full((3, 3), np.nan))


def test_waves_around_the_globe_are_counted_along_rows_by_weight():
    rows = np.array([1.0, 3.0])
    wave = np.cos(2 * np.pi * 3 * np.arange(12) / 12) * np.array([[1.0], [2.0]])
    frequency, power = zonal_spectrum(np.stack([wave, wave]), rows)
    assert power[3] == pytest.approx((0.5 * 1 + 2 * 3) / 4)
    assert frequency[3] == pytest.approx(3 / 12)
    assert zonal_spectrum(wave + 5).power[0] == pytest.approx(25)
    with pytest.raises(BadInput, match="choose a part without land"):
        zonal_spectrum(np.full((2, 4), np.nan))
