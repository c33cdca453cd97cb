"""CRPS against closed forms and the double sum."""

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics.forecast import crps, spread_and_error, spread_skill


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
