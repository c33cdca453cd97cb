"""CRPS against closed forms and the double sum."""

import math

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics.forecast import (
    average,
    bias,
    crps,
    energy_score,
    extreme_levels,
    quantile_pairs,
    rank_histogram,
    rmse,
    spread_and_error,
    spread_skill,
)


def test_equals_the_double_sum():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3, 4)), rng.normal(size=(3, 4))
    pairs = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (2 * 5 * 4)
    assert crps(x, y) == pytest.approx(np.abs(x - y).mean(axis=0) - pairs)


def test_a_standard_normal_at_zero():
    x = np.random.default_rng(1).normal(size=(200_000,))
    assert crps(x, np.zeros(())) == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=2e-3)  # 0.2337


def test_one_sample_is_the_absolute_error_and_few_are_unbiased():
    assert crps(np.array([[3.0]]), np.array([1.0])) == [2.0]
    rng = np.random.default_rng(2)
    few = crps(rng.normal(size=(2, 100_000)), np.zeros(100_000)).mean()
    assert few == pytest.approx(0.2337, abs=0.01)


def test_spread_matches_skill_for_a_calibrated_ensemble_of_any_size():
    rng = np.random.default_rng(3)
    for N in (2, 5, 20):
        centre, width = 5 * rng.normal(size=60_000), rng.uniform(0.5, 3, size=60_000)
        draws = centre + width * rng.normal(size=(N + 1, 60_000))
        assert spread_skill(draws[1:], draws[0]) == pytest.approx(1, abs=0.015)
        assert spread_skill(centre + (draws[1:] - centre) / 2, draws[0]) < 0.8


def test_spread_and_error_by_hand():
    samples, truth = np.array([[1, 5], [3, 5]], np.uint8), np.array([6, 2], np.uint8)
    variance, error = spread_and_error(samples, truth)
    assert variance.tolist() == [2 * 3 / 2, 0]  # unbiased variance 2, times (N + 1) / N
    assert error.tolist() == [16, 9]
    assert spread_skill(samples, truth) == pytest.approx(np.sqrt(1.5 / 12.5))
    assert spread_skill(samples, np.array([2, 5])) == np.inf
    assert np.isnan(spread_skill(samples[:, 1:], np.array([5])))
    with pytest.raises(BadInput, match="draw 2 or more"):
        spread_skill(samples[:1], truth)


def normal_crps(mean, std, y):
    """The closed form of Gneiting and Raftery 2007, eq. 21."""
    z = (y - mean) / std
    below = 0.5 * (1 + np.vectorize(math.erf)(z / np.sqrt(2)))
    return std * (z * (2 * below - 1) + np.sqrt(2 / np.pi) * np.exp(-z * z / 2) - 1 / np.sqrt(np.pi))


def test_crps_of_gaussians_of_any_mean_and_width():
    rng = np.random.default_rng(4)
    mean, std, y = np.array([0, 2.0, -1]), np.array([1, 0.5, 3]), np.array([0.3, 3, -4])
    made = crps(mean + std * rng.normal(size=(100_000, 3)), y)
    assert made == pytest.approx(normal_crps(mean, std, y), rel=0.02)


def test_averages_leave_nan_out_and_weigh():
    values = np.array([[[1, 2], [3, np.nan]], [[np.nan, np.nan], [np.nan, 8]]])
    weights = np.array([[1, 1], [2, 5]])
    assert average(values, weights).tolist() == [(1 + 2 + 6) / 4, 8]
    assert average(values) == pytest.approx(14 / 4)
    assert np.isnan(average(np.full((2, 2), np.nan), weights))
    for bad in (np.ones(3), -weights, 0 * weights):
        with pytest.raises(BadInput, match="weights of shape"):
            average(values, bad)


def test_bias_and_rmse_by_hand():
    samples = np.array([[1.0, 5], [3, 5]])
    truth, weights = np.array([1.0, 8]), np.array([3.0, 1])
    assert bias(samples, truth, weights) == pytest.approx((3 * 1 + 1 * -3) / 4)
    assert rmse(samples, truth, weights) == pytest.approx(np.sqrt((3 * 1 + 1 * 9) / 4))
    assert bias(samples, truth) == -1
    assert spread_skill(samples, truth, np.array([1.0, 0])) == pytest.approx(np.sqrt(3 / 1))


def test_energy_score_of_one_place_is_crps_and_of_many_sees_how_they_vary_together():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(6, 1)), rng.normal(size=1)
    assert energy_score(x, y) == pytest.approx(float(crps(x, y)[0]))
    weights = np.array([[1.0, 3]])
    x, y = rng.normal(size=(4, 1, 2)), rng.normal(size=(1, 2))
    norm = lambda d: np.sqrt((d * d * weights / 4).sum(axis=(-1, -2)))  # noqa: E731
    pairs = sum(norm(a - b) for a in x for b in x) / (2 * 4 * 3)
    assert energy_score(x, y, weights) == pytest.approx(norm(x - y).mean() - pairs)
    x[2, 0, 0] = np.nan
    assert energy_score(x, y) == pytest.approx(float(crps(x[:, 0, 1:], y[0, 1:])[0]))
    together, apart, same = [], [], []
    for _ in range(400):
        truth = np.full(9, rng.normal())
        together.append(energy_score(np.repeat(rng.normal(size=(8, 1)), 9, axis=1), truth))
        draws = rng.normal(size=(8, 9))
        apart.append(energy_score(draws, truth))
        same.append(crps(draws, truth).mean())
    assert np.mean(together) == pytest.approx(1 / np.sqrt(np.pi), abs=0.07)  # E|X - Y| / 2 of two normals
    assert np.mean(apart) > np.mean(together) + 0.05
    assert np.mean(same) == pytest.approx(1 / np.sqrt(np.pi), abs=0.07)  # the mean CRPS does not
    with pytest.raises(BadInput, match="draw 2 or more"):
        energy_score(x[:1], y)


def test_rank_histogram_is_flat_for_calibrated_ensembles_and_shows_what_is_wrong():
    rng = np.random.default_rng(6)
    draws = rng.normal(size=(10, 50_000))
    x, y = draws[1:], draws[0]
    flat = rank_histogram(x, y)
    assert flat.shape == (10,)
    assert flat.sum() == pytest.approx(1)
    assert np.abs(flat - 0.1).max() < 5 * np.sqrt(0.09 / 50_000)
    narrow = rank_histogram(x / 3, y)
    assert narrow[0] > 0.2 < narrow[-1]
    assert np.all(np.diff(rank_histogram(x + 1, y)) < 0)
    dry = rank_histogram(np.maximum(x - 1, 0), np.maximum(y - 1, 0))  # mostly ties
    assert np.abs(dry - 0.1).max() < 5 * np.sqrt(0.09 / 50_000)


def test_rank_histogram_weighs_and_leaves_out():
    x = np.array([[1.0, 1, np.nan, 1], [2, 2, 2, 2]])
    y, weights = np.array([0, 3.0, 5, np.nan]), np.array([1.0, 3, 9, 9])
    assert rank_histogram(x, y, weights).tolist() == [0.25, 0, 0.75]


def test_extreme_quantiles():
    levels = extreme_levels(2)
    assert levels[:3] == pytest.approx([0.9, 0.91, 0.92])
    assert levels[[8, 9, 17]] == pytest.approx([0.98, 0.99, 0.998])
    x = np.arange(1001.0)
    pairs = quantile_pairs(2 * x, np.append(x, np.nan), np.array([0.5, 0.9, 0.999, 0.9999]))
    assert pairs[0, :3] == pytest.approx([1000, 1800, 1998])
    assert pairs[1, :3] == pytest.approx([500, 900, 999])
    assert np.isnan(pairs[:, 3]).all()
    with pytest.raises(BadInput, match="has no values"):
        quantile_pairs(x, np.array([np.nan]))


def test_rare_levels_at_the_lower_end_need_values_as_well():
    x = np.arange(100.0)
    pairs = quantile_pairs(x, x, np.array([0.001, 0.01, 0.5, 0.99, 0.999]))
    assert np.isnan(pairs[0]).tolist() == [True, False, False, False, True]
